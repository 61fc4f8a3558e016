"""Bodies of the Open Inference Protocol over HTTP: JSON, tensors in it or as bytes behind it, perhaps compressed.

Knows no model: what tensors mean is decided in `service.serving.oip.requests`.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.core.errors import InvalidRequest, TooLarge, Unsupported, UnsupportedMedia
from service.rest.formats.json_body import PIECE, NumberLists, read_numbers, read_object, split_numbers
from service.rest.formats.params import whole_number
from service.serving.oip.infer import InferResponse
from service.serving.oip.requests import InferRequest
from service.serving.oip.tensors import MAX_TYPED, Tensor, elements, encodes_base64, refuse_shared_memory

#: How many of the body's bytes are JSON; the tensors follow. Always of the uncompressed body.
LENGTH = "Inference-Header-Content-Length"
JSON, BINARY = "application/json", "application/octet-stream"
#: zlib's window bits for what each coding's name means.
_CODINGS = {"gzip": 31, "deflate": 15}
#: Older names of codings (RFC 9110, 8.4.1.3).
_OLDER_NAMES = {"x-gzip": "gzip"}
MAX_INPUTS = 16
#: Of a body, bytes: as Python's objects JSON takes many times its size.
MAX_JSON = 32 * 2**20
#: Of a body, values that are no numbers of a tensor: files in base64, parameters, outputs.
MAX_VALUES = 2**14
#: Of a request's id, which the answer repeats: characters.
MAX_ID = 1024


@dataclass(frozen=True, slots=True, eq=False)
class InferBody:
    """A request and which of its outputs are wanted as bytes: those in `binary`, and with `all_binary` the others."""

    request: InferRequest
    binary: Mapping[str, bool]
    all_binary: bool


def decompress(body: bytes, coding: str, limit: int, reserve: Callable[[int], None]) -> bytes:
    """Return the body without its Content-Encoding. Calls `reserve` with the bytes of each piece when it is made.

    Raises TooLarge beyond `limit` bytes, and what `reserve` raises; one piece at most is there and not reserved.
    """
    coding = _coding(coding)
    if coding in ("", "identity"):
        return body
    if coding not in _CODINGS:
        raise UnsupportedMedia(f"bodies may be compressed by {' or '.join(_CODINGS)}", field="Content-Encoding")
    content = io.BytesIO()  # gives its bytes away without a copy
    try:
        for piece in _decompressed_pieces(body, coding):
            if content.tell() + len(piece) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes when inflated")
            reserve(len(piece))
            content.write(piece)
    except zlib.error:
        raise InvalidRequest(f"the body is not {coding}", field="Content-Encoding") from None
    return content.getvalue()


def _coding(coding: str) -> str:
    name = coding.strip().lower()
    return _OLDER_NAMES.get(name, name)


def _decompressed_pieces(body: bytes, coding: str) -> Iterator[bytes]:
    """Yield the content, PIECE bytes at a time at most. Fed piece by piece, too: zlib copies what it has not read."""
    machine = zlib.decompressobj(_CODINGS[coding])
    rest = 0
    for at in range(0, len(body), PIECE):
        tail = body[at : at + PIECE]
        while True:
            piece = machine.decompress(tail, PIECE)
            tail = machine.unconsumed_tail
            yield piece
            # A full piece: zlib may hold more of what it has read already.
            if machine.eof or not (tail or len(piece) == PIECE):
                break
        if machine.eof:
            rest = len(body) - at - PIECE
            break
    if not machine.eof or machine.unused_data or rest > 0:
        raise InvalidRequest(f"the body is not one whole {coding} stream", field="Content-Encoding")


def compress(body: bytes, accept: str) -> tuple[bytes, str | None]:
    """Return the body as the client wants it, and the coding used; None where it stays as it is.

    Only a client that names one single coding gets it: most send a list without thinking, and compressing noise
    costs more time than sending it.
    """
    coding = _coding(accept)
    if coding not in _CODINGS:
        return body, None
    machine = zlib.compressobj(1, wbits=_CODINGS[coding])
    return machine.compress(body) + machine.flush(), coding


def read(body: bytes, length: str | None, model: str, version: str) -> InferBody:
    """Read the request that a body holds. Errors name the member."""
    size = len(body) if length is None else _length(length, len(body))
    if size > MAX_JSON:
        raise TooLarge(f"the JSON may have at most {MAX_JSON} bytes; send tensors behind it", field="body")
    lists = split_numbers(body[:size])
    document = read_object(lists.rest, max_values=MAX_VALUES)
    parameters = _parameters(document, "parameters")
    all_binary = _flag(parameters, "binary_data_output", "parameters")
    rest = memoryview(body)[size:]
    inputs, at = [], 0
    tensors: Any = document.get("inputs")
    _must(isinstance(tensors, list) and 0 < len(tensors) <= MAX_INPUTS, "inputs must be a list of tensors", "inputs")
    for n, tensor in enumerate(tensors):
        parsed_tensor, nbytes = _input(tensor, n, rest[at:], lists)
        inputs.append(parsed_tensor)
        at += nbytes
    _must(at == len(rest), f"{len(rest) - at} bytes follow the last tensor", "inputs")
    names, binary = _outputs(document.get("outputs"))
    name = document.get("id")
    name = "" if name is None else name
    _must(isinstance(name, str), "id must be a string", "id")
    _must(len(name) <= MAX_ID, f"id may have at most {MAX_ID} characters", "id")
    return InferBody(
        InferRequest(model, version, name, parameters, tuple(inputs), names),
        binary,
        all_binary is True,
    )


def write(answer: InferResponse, request: InferBody) -> tuple[bytes, int | None]:
    """Return the answer's body and, if tensors follow its JSON, the JSON's length."""
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for tensor in answer.outputs:
        document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        assert isinstance(tensor.data, bytes)
        if request.binary.get(tensor.name, request.all_binary):
            document["parameters"] = {"binary_data_size": len(tensor.data)}
            tail.append(tensor.data)
        elif len(tensor.data) > MAX_TYPED:
            raise TooLarge(
                f"{tensor.name} is too large for JSON; ask for it with binary_data", field=f"outputs.{tensor.name}"
            )
        else:
            document["data"] = elements(tensor)
        outputs.append(document)
    members: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        members["id"] = answer.id
    head = json.dumps(members | {"parameters": answer.parameters, "outputs": outputs}).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def _length(text: str, limit: int) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and int(digits) <= limit):
        raise InvalidRequest(f"{LENGTH} must be a length within the body", field=LENGTH)
    if int(digits) == 0:
        raise Unsupported("a body of bytes alone tells no frame size; send JSON before it", field=LENGTH)
    return int(digits)


def _input(tensor: object, n: int, rest: memoryview, lists: NumberLists) -> tuple[Tensor, int]:
    """Read one input; return it, and how many of the bytes behind the JSON are its."""
    field = f"inputs[{n}]"
    if not isinstance(tensor, dict):
        raise InvalidRequest("an input must be a JSON object", field=field)
    name, datatype, sides = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise InvalidRequest("an input needs a name and a datatype", field=field)
    shape: list[Any] = [whole_number(side) for side in sides[:9]] if isinstance(sides, list) else []
    if not isinstance(sides, list) or len(sides) > 8 or not all(type(d) is int and abs(d) < 2**128 for d in shape):
        raise InvalidRequest("an input's shape must be a list of at most 8 whole numbers", field=f"{field}.shape")
    parameters = _parameters(tensor, f"{field}.parameters")
    refuse_shared_memory(parameters, field)
    size = whole_number(parameters.get("binary_data_size"))
    if size is None:
        data = tensor.get("data")
        if (span := lists.of(data)) is not None:
            if datatype == "BYTES":
                raise InvalidRequest(f"{name[:80]} holds numbers; BYTES are base64 texts", field=f"inputs.{name[:80]}")
            # Numbers of another type are refused by the model, which need not see them.
            is_numeric = datatype in ("UINT8", "UINT64")
            numbers = read_numbers(lists, span, name[:80], datatype) if is_numeric else []
            return Tensor(name, datatype, tuple(shape), numbers), 0
        if not isinstance(data, list):
            raise InvalidRequest("an input needs data, or binary_data_size", field=f"{field}.data")
        return Tensor(name, datatype, tuple(shape), data), 0
    if tensor.get("data") is not None:
        raise InvalidRequest("an input has either data or binary_data_size", field=f"{field}.data")
    if type(size) is not int or not 0 <= size <= len(rest):
        raise InvalidRequest(
            f"binary_data_size must be a length within the {len(rest)} bytes left",
            field=f"{field}.parameters.binary_data_size",
        )
    return Tensor(name, datatype, tuple(shape), rest[:size], encodes_base64(parameters)), size


def _outputs(outputs: object) -> tuple[tuple[str, ...], dict[str, bool]]:
    """Return the outputs' names and, for those that say so, whether they are wanted as bytes."""
    if outputs is None:
        return (), {}
    if not isinstance(outputs, list) or len(outputs) > MAX_INPUTS:
        raise InvalidRequest("outputs must be a list", field="outputs")
    names, binary = [], {}
    for n, output in enumerate(outputs):
        field = f"outputs[{n}]"
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise InvalidRequest("an output must be a JSON object with a name", field=field)
        parameters = _parameters(output, f"{field}.parameters")
        refuse_shared_memory(parameters, field)
        if parameters.get("classification"):
            raise Unsupported("classification is not offered: no output is a class", field=field)
        if (as_bytes := _flag(parameters, "binary_data", f"{field}.parameters")) is not None:
            binary[output["name"]] = as_bytes
        names.append(output["name"])
    return tuple(names), binary


def _parameters(holder: Mapping[str, object], field: str) -> dict[str, object]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters must be a JSON object", field=field)
    return parameters


def _flag(parameters: Mapping[str, object], name: str, field: str) -> bool | None:
    """Return a parameter that is true or false, perhaps as a string; None where it is absent or null."""
    value = parameters.get(name)
    value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    _must(value is None or isinstance(value, bool), f"{name} must be true or false", f"{field}.{name}")
    return value if isinstance(value, bool) else None


def _must(holds: bool, why: str, field: str) -> None:
    if not holds:
        raise InvalidRequest(why, field=field)
