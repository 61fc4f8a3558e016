"""Loads and unloads versions of the weights for who may: the model repository extension of the protocol.

Both models are one network, so that to load one is to load both.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.app_state import AppState
from service.core.api_keys import Scope
from service.core.errors import InvalidRequest, Unauthenticated, Unsupported
from service.core.interfaces import ModelRepository
from service.core.types import VERSION_NAME
from service.serving.oip import models
from service.serving.oip.served_versions import ServedVersions

FIXED = "models cannot be loaded or unloaded while the service runs (DMVFN_MODEL_CONTROL, scope control)"
#: What a load and an unload may say; clients of Triton send the last, which means nothing here.
LOAD, UNLOAD = ("version", "share", "shadow"), ("version", "unload_dependents")

#: Above 1, which a shadow may be: the default answers all the same.
ALL = 1.0 + 1e-9


async def load(state: AppState, client: str, model: str, parameters: Mapping[str, object]) -> None:
    """Load a version, by default the newest, and return when it answers.

    `parameters`: `version`; `share` of the requests that name none ("5%" or 0.05), `shadow` of those that the default
    answered; without either it becomes the default. Raises a ServiceError where `client` may not, or it cannot be.
    """
    repository = _authorise(state, client, model)
    _check(parameters, LOAD)
    await repository.load(_version(parameters), _share(parameters, "share", 1.0), _share(parameters, "shadow", ALL))


async def unload(state: AppState, client: str, model: str, parameters: Mapping[str, object]) -> None:
    """Unload the version that `parameters` name, and return when it has answered all. Raises as `load`."""
    repository = _authorise(state, client, model)
    _check(parameters, UNLOAD)
    version = _version(parameters)
    if version is None:
        raise InvalidRequest("name the version to unload", field="parameters.version")
    await repository.unload(version)


async def index(state: AppState, *, only_ready: bool) -> list[dict[str, str]]:
    """Return the document of `POST /v2/repository/index`: every version of both models, loaded or not."""
    readiness, repository = state.engine.readiness(), state.repository
    if repository is None or not repository.is_named or not ServedVersions.of(state).statuses:
        return models.index(ready=readiness.ready, reason=readiness.reason, only_ready=only_ready)
    return models.version_index(await repository.index(), readiness, only_ready=only_ready)


def is_offered(state: AppState) -> bool:
    """Tell whether anybody may load and unload versions: who `DMVFN_MODEL_CONTROL` names, or has the scope."""
    return bool(state.settings.model_control) or state.access.grants(Scope.CONTROL)


def _authorise(state: AppState, client: str, model: str) -> ModelRepository:
    """Return what loads and unloads versions. Raises a ServiceError where `client` may not, or there is no `model`."""
    names = state.settings.model_control
    if not is_offered(state) or state.repository is None:
        raise Unsupported(FIXED)
    if "*" not in names and client not in names:
        if not client:
            raise Unauthenticated("loading and unloading versions needs an API key")
        state.access.require(client, Scope.CONTROL)
    models.find_model(model)
    return state.repository


def _check(parameters: Mapping[str, object], names: tuple[str, ...]) -> None:
    for name in parameters:
        if name not in names:
            label = name[:80].encode("ascii", "backslashreplace").decode()
            raise InvalidRequest(
                f"there is no parameter {label}; the parameters are {', '.join(names)}", field=f"parameters.{label}"
            )


def _version(parameters: Mapping[str, object]) -> str | None:
    value = parameters.get("version")
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and abs(value) < 2**63 else value
    if not isinstance(text, str) or not VERSION_NAME.fullmatch(text):
        raise InvalidRequest("version must be the name of one", field="parameters.version")
    return text


def _share(parameters: Mapping[str, object], name: str, below: float) -> float | None:
    """Return a part of the requests, 0 to less than `below`. Raises InvalidRequest."""
    value = parameters.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, str) and len(value) < 40:
            share = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            share = float(value)
        else:
            raise ValueError
        if not 0 <= share < below:  # refuses nan, too
            raise ValueError
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{name} must be from 0% to {'below ' if below == 1 else ''}100%; without one it becomes the default",
            field=f"parameters.{name}",
        ) from None
    return share
