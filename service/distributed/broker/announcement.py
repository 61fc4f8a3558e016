"""Converts what a worker announces to msgpack and back: its model, methods, versions, costs, dialect, lease and store.

Releases mix: a reader takes what it knows, and what is missing is taken for what releases without it would have said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from service.core.interfaces import ServedModel
from service.core.types import Method
from service.distributed.broker.serialization import (
    UnreadableEntry,
    dialect,
    number,
    pack,
    text_or_empty,
    text_or_none,
    unpack,
)
from service.engine.scheduling.pricing import DeviceCosts

#: The fields of a model that are text.
MODEL_TEXTS = ("version", "device", "dtype", "colour_order", "training_data", "sha256")


def info_bytes(
    model: ServedModel,
    seconds_per_megapixel: float | None,
    costs: Mapping[str, Any] | None = None,
    *,
    versions: Sequence[str] = (),
    is_named: bool = False,
    lease_ms: int | None = None,
    store: str = "",
) -> bytes:
    """Serialise an announcement: a worker's model, methods and versions, its costs, its dialect, lease and store.

    `seconds_per_megapixel` of a step on padded pixels is for front ends of releases that cannot read `costs`.

    `versions` of its weights are those loaded, the model's own first; `is_named`: they have names of their own. Workers
    with other versions have other dialects: one may do what another cannot.

    Nothing may be added inside "model": releases up to November 2026 refuse a field there that they do not know, and
    their front ends then fall silent. They ignore what stands beside it.
    """
    description = asdict(model)
    methods = {"all": list(description.pop("methods")), "default": description.pop("default_method")}
    methods["head"] = description.pop("head")
    version_list = {"all": list(versions), "named": is_named}
    return pack(
        {
            "model": description,
            "methods": methods,
            "versions": version_list,
            "cost": seconds_per_megapixel,
            "costs": costs,
            "dialect": dialect(versions, store),
            "lease_ms": lease_ms,
            "store": store,
        }
    )


def read_info(data: bytes) -> tuple[ServedModel, float | None]:
    """Read a worker's model and seconds per megapixel; UnreadableEntry where it names no model."""
    v = unpack(data)
    model = v.get("model")
    if not isinstance(model, dict):
        raise UnreadableEntry("an announcement without a model")
    texts: dict[str, Any] = {name: text_or_empty(model.get(name)) or "unknown" for name in MODEL_TEXTS}
    parameters, scores = model.get("parameters"), model.get("scores")
    info = ServedModel(
        **texts,
        parameters=parameters if type(parameters) is int else 0,
        scores={str(name): float(value) for name, value in scores.items() if number(value, None) is not None}
        if isinstance(scores, dict)
        else {},
        **_read_methods(v.get("methods")),
    )
    return info, number(v.get("cost"), None)


def read_costs(data: bytes) -> DeviceCosts | None:
    """Read the costs of a worker's announcement; None where it has none, or such as are not known here."""
    try:
        return DeviceCosts.read(unpack(data).get("costs"))
    except (UnreadableEntry, ValueError, OverflowError):
        return None


def read_versions(data: bytes) -> tuple[tuple[str, ...], bool]:
    """Read the versions that a worker has loaded, its default first, and whether they have names of their own.

    One of a release that knows no versions has its model's. UnreadableEntry where it names no model.
    """
    value = unpack(data).get("versions")
    if isinstance(value, dict) and isinstance(value.get("all"), list) and value["all"]:
        return tuple(name for name in value["all"] if isinstance(name, str)), value.get("named") is True
    return (read_info(data)[0].version,), False


def _read_methods(value: object) -> dict[str, Any]:
    """Read the fields of `ServedModel` on methods, as far as known here; the network's where a worker says nothing."""
    if isinstance(value, dict) and isinstance(value.get("all"), list):
        methods = tuple(Method(name) for name in value["all"] if name in [*Method])
        if value.get("default") in methods:
            head = text_or_none(value.get("head"))
            return {"methods": methods, "default_method": Method(value["default"]), "head": head or ""}
    return {}


def read_dialect(data: bytes) -> str | None:
    """Read the dialect of a worker's announcement; None where it names none, or cannot be read at all."""
    try:
        return text_or_none(unpack(data).get("dialect"))
    except UnreadableEntry:
        return None


def read_store(data: bytes) -> str:
    """Read the name of the object store that a worker has; "" where it has none, or does not say."""
    try:
        return text_or_empty(unpack(data).get("store"))
    except UnreadableEntry:
        return ""


def read_lease(data: bytes) -> int | None:
    """Read for how long a worker's leases last, milliseconds; None where it does not say."""
    try:
        lease_ms = unpack(data).get("lease_ms")
    except UnreadableEntry:
        return None
    return lease_ms if type(lease_ms) is int else None
