"""Routes and ingresses: every path that callers may use is reachable through them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.unit.deploy.kustomize import Manifest
from tests.unit.deploy.manifests import ROOT, one, overlay, rendered, with_components

DEFAULTS = Settings()
#: For operators inside the cluster only.
INSIDE = {"/metrics", "/debug/batcher"}
#: Known to the process that took it only: jobs without Redis, and clips.
OF_ONE_PROCESS = ("/v1/jobs", "/v1/video")


def _served() -> set[str]:
    """Every path that the HTTP edge answers, as its decorators say."""
    text = "\n".join(path.read_text() for path in (ROOT / "service" / "rest").rglob("*.py"))
    decorated = re.findall(r"@\w+\.(?:get|post|put|delete|head|websocket|api_route)\(\s*\"(/[^\"]*)\"", text)
    return {"/openapi.json"} | {path.split("{")[0].rstrip("/") or "/" for path in decorated}


def _covers(kind: str, value: str, path: str) -> bool:
    return path == value or (kind.endswith("Prefix") and path.startswith(value.rstrip("/") + "/"))


def _gateway(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Kind of match, path, Service and rule of every HTTPRoute."""
    for route in (m for m in manifests if m["kind"] == "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                yield match["path"]["type"], match["path"]["value"], rule["backendRefs"][0]["name"], rule


def _ingress(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The same of the Ingresses for HTTP."""
    for ingress in (m for m in manifests if m["kind"] == "Ingress" and m["metadata"]["name"] != "dmvfn-grpc"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            yield path["pathType"], path["path"], path["backend"]["service"]["name"], ingress


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, ...]:
    names = ("worker", "redis", "gateway", "gateway-sessions", "ingress")
    return rendered(with_components(tmp_path_factory.mktemp("routes"), *names))


@pytest.mark.parametrize("routes", [_gateway, _ingress])
def test_every_path_is_reachable_but_those_for_the_inside(routes: Any, everything: tuple[Manifest, ...]) -> None:
    rules = [(kind, value) for kind, value, _, _ in routes(everything)]
    reached = {path for path in _served() if any(_covers(kind, value, path) for kind, value in rules)}
    assert {"/", "/demo", "/healthz/ready", "/openapi.json", "/problems", "/v1/predict", "/v2/health/ready"} <= reached
    assert _served() - reached == INSIDE


@pytest.mark.parametrize("routes", [_gateway, _ingress])
def test_jobs_and_clips_go_where_a_caller_stays_with_one_pod(routes: Any, everything: tuple[Manifest, ...]) -> None:
    for path in OF_ONE_PROCESS:
        # The longest match wins, with a gateway as with an ingress.
        matching = [(value, service) for kind, value, service, _ in routes(everything) if _covers(kind, value, path)]
        assert max(matching, key=lambda match: len(match[0]))[1] == "dmvfn-jobs"


def test_a_prediction_asked_for_as_a_job_goes_there_too(everything: tuple[Manifest, ...]) -> None:
    """Else the pod that is asked for the job would be another one than took it."""
    for manifests in (everything, overlay("cpu")):
        (rule,) = one(manifests, "HTTPRoute", "dmvfn-jobs")["spec"]["rules"]
        (match,) = (match for match in rule["matches"] if match["path"]["value"] == "/v1/predict")
        assert match["path"]["type"] == "Exact"  # before the prefix /v1 of the other route
        assert match["headers"] == [{"name": "Prefer", "value": "respond-async"}]


def test_a_caller_stays_with_one_pod_as_long_as_results_are_kept() -> None:
    for name in ("cpu", "gpu", "redis-scale-out"):
        spec = one(overlay(name), "Service", "dmvfn-jobs")["spec"]
        assert spec["sessionAffinity"] == "ClientIP"
        assert spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] == DEFAULTS.job_ttl_s


def test_the_gateways_cookie_and_the_ingress_hash_do_the_same(everything: tuple[Manifest, ...]) -> None:
    (rule,) = one(everything, "HTTPRoute", "dmvfn-jobs")["spec"]["rules"]
    (plain,) = one(overlay("cpu"), "HTTPRoute", "dmvfn-jobs")["spec"]["rules"]
    sessions = rule.pop("sessionPersistence")
    assert rule == plain, "the patch repeats the rule"
    assert sessions["absoluteTimeout"] == f"{DEFAULTS.job_ttl_s / 3600:.0f}h"
    annotations = one(everything, "Ingress", "dmvfn-jobs")["metadata"]["annotations"]
    assert "$http_authorization" in annotations["nginx.ingress.kubernetes.io/upstream-hash-by"]


def test_no_gateway_is_first_to_give_up(everything: tuple[Manifest, ...]) -> None:
    """0 means never; a route for requests waits longer than the longest deadline a caller may ask for."""
    waits = {path: float(rule["timeouts"]["request"].removesuffix("s")) for _, path, _, rule in _gateway(everything)}
    assert {path for path, seconds in waits.items() if seconds == 0} == {"/v1/stream", "/v1/predict", *OF_ONE_PROCESS}
    assert min(waits["/v1"], waits["/v2"]) > DEFAULTS.max_deadline_ms / 1000


def test_the_component_says_what_version_it_needs() -> None:
    """`timeouts` are in the standard channel from 1.2 on."""
    component = Path(ROOT / "deploy/kubernetes/components/gateway/kustomization.yaml").read_text()
    assert "1.2 or newer" in component
    assert "Gateway API 1.2" in (ROOT / "docs" / "deploy.md").read_text()
