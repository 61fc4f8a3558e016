"""The two models of the Open Inference Protocol: what they take and give, as metadata, configuration and index.

Plain dictionaries in the protocol's own names, so that REST shows them and gRPC fills its messages with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.core.errors import NotFound
from service.core.interfaces import Readiness, ServedModel, VersionState, VersionStatus
from service.core.types import BLOCKS

SERVER = "dmvfn"
#: The version of weights that are one file; which they are is in the metadata and in every answer.
VERSION = "1"
PLATFORM = "dmvfn"
#: Extensions that work here; clients trust this list.
EXTENSIONS = ("binary_tensor_data", "model_configuration", "parameters", "statistics")

_CONFIG_TYPES = {"UINT8": "TYPE_UINT8", "UINT64": "TYPE_UINT64", "FP64": "TYPE_FP64", "BYTES": "TYPE_STRING"}


@dataclass(frozen=True, slots=True)
class Spec:
    """One tensor; `dims` without the batch, -1 where any size is taken."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One model's tensors."""

    name: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]


_SEED = Spec("SEED", "UINT64", (1,), optional=True)
_ROUTE_AND_FLOPS = (Spec("ROUTE", "UINT8", (-1, BLOCKS)), Spec("FLOPS", "FP64", (-1,)))
#: Frames as tensors: the previous and the current of each item, RGB; steps, height, width of the answer.
TENSORS = Model(
    "dmvfn",
    (Spec("FRAMES", "UINT8", (2, -1, -1, 3)), _SEED),
    (Spec("PRED", "UINT8", (-1, -1, -1, 3)), *_ROUTE_AND_FLOPS),
)
#: Frames as image files.
IMAGES = Model(
    "dmvfn_image",
    (Spec("FRAME0", "BYTES", (1,)), Spec("FRAME1", "BYTES", (1,)), _SEED),
    (Spec("PRED", "BYTES", (-1,)), *_ROUTE_AND_FLOPS),
)
MODELS = {model.name: model for model in (TENSORS, IMAGES)}


def find_model(name: str) -> Model:
    """Return the model, or raise NotFound."""
    if name not in MODELS:
        raise NotFound(f"no model {name[:80]!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def server(release: str, *, can_load: bool = False) -> dict[str, object]:
    """Return the document of `GET /v2`. `can_load`: versions can be loaded and unloaded."""
    extensions = [*EXTENSIONS, "model_repository"] if can_load else EXTENSIONS
    return {"name": SERVER, "version": release, "extensions": list(extensions)}


def metadata(model: Model, info: ServedModel, versions: Sequence[str] = (VERSION,)) -> dict[str, object]:
    """Return the document of `GET /v2/models/NAME`. `info` describes the version asked for."""

    def tensor_documents(specs: Sequence[Spec]) -> list[dict[str, object]]:
        return [{"name": s.name, "datatype": s.datatype, "shape": [-1, *s.dims]} for s in specs]

    return {
        "name": model.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": tensor_documents(model.inputs),
        "outputs": tensor_documents(model.outputs),
        "properties": {
            "weights": info.version,
            "training_data": info.training_data,
            "methods": ",".join(info.methods),
            "default_method": info.default_method,
            "head": info.head,
        },
    }


def config(model: Model, info: ServedModel, *, max_batch: int, max_queue: int, timeout_ms: int) -> dict[str, object]:
    """Return the document of `GET /v2/models/NAME/config`, which load generators read before they begin."""

    def tensor_documents(specs: Sequence[Spec]) -> list[dict[str, object]]:
        return [
            {"name": s.name, "data_type": _CONFIG_TYPES[s.datatype], "dims": list(s.dims)}
            | ({"optional": True} if s.optional else {})
            for s in specs
        ]

    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": max_batch,
        "input": tensor_documents(model.inputs),
        "output": tensor_documents(model.outputs),
        # Batches form while the device is busy; nobody is kept waiting for one.
        "dynamic_batching": {
            "max_queue_delay_microseconds": 0,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": timeout_ms * 1000,
                "allow_timeout_override": True,
                "max_queue_size": max_queue,
            },
        },
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        "parameters": {"weights": {"string_value": info.version}},
    }


def index(*, ready: bool, reason: str | None, only_ready: bool) -> list[dict[str, str]]:
    """Return the document of `POST /v2/repository/index`."""
    if only_ready and not ready:
        return []
    state = "READY" if ready else "UNAVAILABLE"
    return [{"name": name, "version": VERSION, "state": state, "reason": reason or ""} for name in MODELS]


def version_index(statuses: Sequence[VersionStatus], readiness: Readiness, *, only_ready: bool) -> list[dict[str, str]]:
    """Return the same document for named versions; none of them is ready where the service is not."""
    rows = []
    for status in statuses:
        state, reason = status.state, status.reason
        if state is VersionState.READY and not readiness.ready:
            state, reason = VersionState.UNAVAILABLE, readiness.reason or ""
        elif state is VersionState.UNAVAILABLE:
            reason = "not loaded"
        if state is VersionState.READY or not only_ready:
            rows.append({"version": status.name, "state": state.value, "reason": reason})
    return [{"name": name, **row} for name in MODELS for row in rows]
