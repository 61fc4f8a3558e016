"""Tensors of the Open Inference Protocol as bytes and back. Knows no model: only datatypes, shapes and elements."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.core.errors import InvalidRequest, TooLarge, Unsupported

#: Elements given one by one (JSON, typed contents), at most: four million cost about a second and 100 MB.
MAX_TYPED = 4 * 2**20
MAX_DEPTH = 8
#: Files in one BYTES tensor, at most.
MAX_FILES = 2**16


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """`data`: little-endian bytes, row-major (BYTES: a 4-byte length before each), or elements, maybe nested."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | Sequence[object]
    is_base64: bool = False  #: a BYTES tensor whose elements are base64 texts although they came as bytes


def check_datatype(tensor: Tensor, datatype: str) -> Tensor:
    """Return the tensor. Raises InvalidRequest if its datatype is another."""
    if tensor.datatype != datatype:
        raise InvalidRequest(
            f"{tensor.name} must be {datatype}, not {tensor.datatype[:20]!r}", field=f"inputs.{tensor.name}"
        )
    return tensor


def raw(tensor: Tensor, kind: str, count: int) -> bytes | memoryview:
    """Return the tensor's `count` elements of struct's `kind` as little-endian bytes, however they came."""
    field, size = f"inputs.{tensor.name}", struct.calcsize(f"<{kind}") * count
    data = tensor.data
    if isinstance(data, bytes | memoryview):
        if len(data) != size:
            raise InvalidRequest(f"{tensor.name} has {len(data)} bytes where its shape takes {size}", field=field)
        return data
    flat = _flat(tensor, data)
    if len(flat) != count:
        raise InvalidRequest(f"{tensor.name} has {len(flat)} elements where its shape takes {count}", field=field)
    if kind == "Q":  # JSON's 7.0 is 7
        flat = [int(value) if isinstance(value, float) and value.is_integer() else value for value in flat]
    try:
        return bytes(flat) if kind == "B" else struct.pack(f"<{count}{kind}", *flat)  # type: ignore[arg-type]
    except (ValueError, TypeError, struct.error):
        raise InvalidRequest(f"{tensor.name} has elements that are no {tensor.datatype}", field=field) from None


def encodes_base64(parameters: Mapping[str, object]) -> bool:
    """Tell whether an input's parameters say, as MLServer's Base64Codec does, that its bytes are base64 texts."""
    return parameters.get("content_type") == "base64"


def files(tensor: Tensor) -> list[bytes]:
    """List the elements of a BYTES tensor; those of JSON are base64 texts, others where the tensor says so."""
    data = tensor.data
    if isinstance(data, bytes | memoryview):
        values: list[object] = list(_split(tensor.name, bytes(data)))
    else:
        values = _flat(tensor, data)
    elements = []
    for value in values:
        if isinstance(value, str) or (tensor.is_base64 and isinstance(value, bytes)):
            try:
                value = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise InvalidRequest(f"{tensor.name} is not base64", field=f"inputs.{tensor.name}") from None
        if not isinstance(value, bytes):
            raise InvalidRequest(f"{tensor.name} must hold base64 texts", field=f"inputs.{tensor.name}")
        elements.append(value)
    return elements


def _split(name: str, data: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise InvalidRequest(f"{name} ends within a length", field=f"inputs.{name}")
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + size > len(data):
            raise InvalidRequest(f"{name} ends within an element of {size} bytes", field=f"inputs.{name}")
        parts.append(data[at : at + size])
        at += size
        if len(parts) > MAX_FILES:
            raise TooLarge(f"{name} has too many elements", field=f"inputs.{name}")
    return parts


def _flat(tensor: Tensor, data: Sequence[object]) -> list[object]:
    """Flatten nested lists, row-major; bounded in elements and depth."""
    level: list[object] = list(data)
    for _ in range(MAX_DEPTH):
        if len(level) > MAX_TYPED:
            raise TooLarge(
                f"{tensor.name} has more than {MAX_TYPED} elements one by one; send them as binary data",
                field=f"inputs.{tensor.name}",
            )
        if not any(isinstance(value, list) for value in level):
            return level
        level = [part for value in level for part in (value if isinstance(value, list) else [value])]
    raise InvalidRequest(f"{tensor.name} is nested too deeply", field=f"inputs.{tensor.name}")


def pack(parts: Iterable[bytes]) -> bytes:
    """Pack the elements of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def elements(tensor: Tensor) -> list[object]:
    """List a tensor of `tensors` as JSON's flat list: numbers; BYTES as base64 texts, since JSON holds no bytes."""
    data = tensor.data
    assert isinstance(data, bytes)
    if tensor.datatype == "BYTES":
        return [base64.b64encode(part).decode() for part in _split(tensor.name, data)]
    kind = {"UINT8": "u1", "FP64": "<f8"}[tensor.datatype]
    return list(np.frombuffer(data, kind).tolist())


def refuse_shared_memory(parameters: Mapping[str, object], field: str) -> None:
    """Raise Unsupported if a tensor's parameters point at memory that only the client's machine has."""
    if "shared_memory_region" in parameters:
        raise Unsupported("shared memory is not offered; send the data", field=field)
