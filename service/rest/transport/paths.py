"""Which paths need a key, and which scope of it. What is not listed under a guarded prefix takes any key."""

from __future__ import annotations

import re

from service.core.api_keys import Scope
from service.core.errors import NotFound

#: Paths that need a key where keys are set; health, metrics and pages stay open.
GUARDED = ("/v1/", "/v2/", "/debug/")
OPEN = ("/v2/health/",)
METRICS = "/metrics"
#: What begins a path, and the scope that it needs.
_SCOPES = (
    ("/v1/predict/", Scope.PREDICT),
    ("/v1/jobs/", Scope.JOBS),
    ("/v1/video/", Scope.CLIPS),
    ("/v1/stream/", Scope.STREAMS),
    ("/debug/", Scope.ADMIN),
    (METRICS + "/", Scope.METRICS),
)
_MODELS, _INFER = "/v2/models/", "/infer"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check(path: str) -> None:
    """Raise NotFound for a decoded path with a control character, which no path of ours has.

    Starlette's patterns end in `$`, so that its routes take a path with a line feed behind it for the path itself: it
    would be answered with another scope than its own, or with none.
    """
    if _CONTROL.search(path):
        raise NotFound("there is nothing at this path")


def is_guarded(path: str, *, metrics: bool = False) -> bool:
    """Tell whether a path needs a key where keys are set; `metrics`: /metrics, too."""
    if path == METRICS:
        return metrics
    return (path + "/").startswith(GUARDED) and not (path + "/").startswith(OPEN)


def scope_of(path: str) -> Scope | None:
    """Return the scope that a guarded path needs; None: any key will do."""
    if path.startswith(_MODELS) and path.endswith(_INFER):
        return Scope.PREDICT
    return next((scope for prefix, scope in _SCOPES if (path + "/").startswith(prefix)), None)
