"""Reads JSON from outside, strictly (`read_object`) and at a cost that is bounded before it arises.

Python's reader makes an object of every value and lets nothing else run meanwhile. A body that can mean something here
has few values; only a tensor has many, and its numbers are read a piece at a time. Python's reader also takes the last
of two equal members, and numbers that JSON has not: here both are refused, wherever JSON comes in.
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import numpy as np

from service.core.errors import InvalidRequest, TooLarge
from service.rest.formats.params import shown
from service.serving.oip.tensors import MAX_DEPTH, MAX_TYPED

T = TypeVar("T")

#: Bodies up to this many bytes are read where they are: a millisecond at most.
SMALL = 16 * 1024
#: Bytes that are looked at in one go; whatever else runs waits for that.
PIECE = 128 * 1024
#: Values of a body without tensors: a dozen members, and what a caller may add by mistake.
FEW = 256
#: Objects and lists within one another, the outermost included.
MAX_NESTING = 32
#: Lists of numbers in one body.
MAX_LISTS = 32
#: Numbers of a tensor that does not hold pixels.
MAX_OTHER = 2**16

#: Bodies read at once: each takes a few times its size while it is.
_READERS = ThreadPoolExecutor(2, thread_name_prefix="json")
_STRUCTURE = (b"[", b"{", b",")
_KEY = b'"data"'
_OPENS = re.compile(rb"\s{0,64}:\s{0,64}(?=\[[\[\s]{0,64}[-0-9])")
_NUMERIC = re.compile(rb"[\[\]\s0-9,.eE+-]*")
_NO_BRACKETS = bytes.maketrans(b"[]", b"  ")
#: What stands for a list of numbers in the rest of a body; no caller can guess it.
_TOKEN = f"numbers {secrets.token_hex(16)} "


async def apart(work: Callable[[], T], nbytes: int) -> T:
    """Return what `work` gives, which reads a body of `nbytes`: in one of few threads where that takes long."""
    if nbytes <= SMALL:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_READERS, work)


def check_values(body: bytes, limit: int, name: str = "body") -> None:
    """Raise TooLarge if JSON holds more than about `limit` values. Commas in strings count as well: base64 has none."""
    count = 0
    for at in range(0, len(body), PIECE):
        piece = body[at : at + PIECE]
        count += sum(map(piece.count, _STRUCTURE))
        if count > limit:
            raise TooLarge(f"the JSON holds more than {limit} values", field=name)


def read_object(
    text: bytes | str, *, max_values: int, max_bytes: int | None = None, name: str = "body"
) -> dict[str, Any]:
    """Read a JSON object: the one reader of all JSON that callers send. Errors call the whole `name`.

    TooLarge for more than `max_bytes` bytes or `max_values` values, before it is read. InvalidRequest otherwise, its
    `reason` says why: `json_syntax`, `json_number` (NaN or Infinity), `json_duplicate` (a member given
    twice, at any depth), `json_nesting` (deeper than MAX_NESTING), `json_type` (no object).
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if max_bytes is not None and len(content) > max_bytes:
        raise TooLarge(f"the {name} may have at most {max_bytes} bytes of JSON", field=name)
    check_values(content, max_values, name)
    try:
        document = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError:  # also numbers of thousands of digits
        raise InvalidRequest(f"the {name} is not well-formed JSON", field=name, reason="json_syntax") from None
    except _NotFinite as error:
        why = f"the {name} is not JSON: it holds the number {error}"
        raise InvalidRequest(why, field=name, reason="json_number") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"the {name} must be a JSON object", field=name, reason="json_type")
    _check_nesting(document, name)
    return document


class _NotFinite(Exception):
    """A number that JSON does not have; the message is its name."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = shown(next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1))
        raise InvalidRequest(f"{twice} is given twice", field=twice, reason="json_duplicate")
    return members


def _refuse_constant(word: str) -> NoReturn:
    raise _NotFinite(word)


def _check_nesting(document: dict[str, Any], name: str) -> None:
    """Walk down level by level."""
    level: list[Any] = [document]
    for _ in range(MAX_NESTING):
        children = [child for value in level for child in (value.values() if isinstance(value, dict) else value)]
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise _too_deep(name)


def _too_deep(name: str) -> InvalidRequest:
    return InvalidRequest(f"the {name} is nested deeper than {MAX_NESTING}", field=name, reason="json_nesting")


def base64_in_pieces(text: str) -> bytes:
    """Decode base64, a piece at a time. Raises ValueError where it is none."""
    last = max(0, len(text) - PIECE) // 4 * 4
    pieces = [text[at : min(at + PIECE, last)] for at in range(0, last, PIECE)]
    # Padding ends a text; inside, each piece could be whole by itself.
    if any("=" in piece for piece in pieces):
        raise ValueError("padding inside base64")
    return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in (*pieces, text[last:]))


@dataclass(frozen=True, slots=True, eq=False)
class NumberLists:
    """The lists of numbers under "data" in a body, as text: (start, end) each; `rest` is the body without them."""

    body: bytes
    rest: bytes
    spans: list[tuple[int, int]] = field(default_factory=list)

    def of(self, value: object) -> tuple[int, int] | None:
        """Return where the list is that `value`, from the rest of the body, stands for; None if it stands for none."""
        if isinstance(value, str) and value.startswith(_TOKEN):
            return self.spans[int(value.removeprefix(_TOKEN))]
        return None


def split_numbers(body: bytes) -> NumberLists:
    """Take lists of numbers under "data" out of a body. InvalidRequest where they do not end, or are too many."""
    spans: list[tuple[int, int]] = []
    rest: list[bytes] = []
    at = copy_start = 0
    while (at := body.find(_KEY, at)) >= 0:
        at += len(_KEY)
        opening = _OPENS.match(body, at)
        # After a backslash it is the end of a longer name.
        if opening is None or body[at - len(_KEY) - 1 : at - len(_KEY)] == b"\\":
            continue
        if len(spans) == MAX_LISTS:
            raise InvalidRequest(f"the body holds more than {MAX_LISTS} lists of numbers", field="inputs")
        start, end = opening.end(), _end(body, opening.end())
        rest += [body[copy_start:start], json.dumps(f"{_TOKEN}{len(spans)}").encode()]
        spans.append((start, end))
        at = copy_start = end
    rest.append(body[copy_start:])
    return NumberLists(body, b"".join(rest), spans)


def _end(body: bytes, start: int) -> int:
    """Return the position behind the last bracket of the list that begins at `start`."""
    at = start
    while at < len(body):
        stop = min(len(body), at + PIECE)
        match = _NUMERIC.match(body, at, stop)
        at = match.end() if match else at
        if at < stop:
            break
    end = body.rfind(b"]", start, at) + 1
    if not end:
        raise InvalidRequest("the body is not JSON", field="body")
    return end


def read_numbers(lists: NumberLists, span: tuple[int, int], name: str, datatype: str) -> bytes | list[object]:
    """Read a list of numbers, nested or not, row-major: bytes for UINT8, else as they are. Errors name the tensor."""
    position, end = span
    depth = count = 0
    pixels: list[bytes] = []
    others: list[object] = []
    while position < end:
        stop = end if end - position <= PIECE else lists.body.rfind(b",", position, position + PIECE) + 1
        if not stop:
            raise InvalidRequest(f"{name} holds a number that is too long", field=f"inputs.{name}")
        piece = lists.body[position:stop]
        depth = _depth(piece, depth, name, last=stop == end)
        values = _values(piece, name, last=stop == end)
        count += len(values)
        if count > (MAX_TYPED if datatype == "UINT8" else MAX_OTHER):
            raise TooLarge(
                f"{name} has more than {MAX_TYPED} elements one by one; send them as binary data",
                field=f"inputs.{name}",
            )
        if datatype == "UINT8":
            pixels.append(_bytes(values, name))
        else:
            others += values
        position = stop
    return b"".join(pixels) if datatype == "UINT8" else others


def _depth(piece: bytes, depth: int, name: str, *, last: bool) -> int:
    """Return how deep the list is nested behind this piece; only the last bracket of the last piece closes it."""
    if not last and b"[" not in piece and b"]" not in piece:
        return depth
    characters = np.frombuffer(piece, np.uint8)
    depths = depth + np.cumsum((characters == ord("[")).astype(np.int32) - (characters == ord("]")))
    if depths.max() > MAX_DEPTH:
        raise InvalidRequest(f"{name} is nested too deeply", field=f"inputs.{name}")
    inside = depths[:-1] if last else depths
    if (inside < 1).any() or (last and depths[-1] != 0):
        raise InvalidRequest("the body is not JSON", field="body")
    return int(depths[-1])


def _values(piece: bytes, name: str, *, last: bool) -> list[object]:
    flat = piece.translate(_NO_BRACKETS)
    try:
        values = json.loads(b"[%b]" % (flat if last else flat[:-1]))
    except ValueError:  # also numbers of thousands of digits
        raise InvalidRequest(f"the numbers of {name} are not JSON", field=f"inputs.{name}") from None
    return list(values)


def _bytes(values: list[object], name: str) -> bytes:
    try:
        try:
            return bytes(values)  # type: ignore[arg-type]  # what is no byte is refused
        except TypeError:
            # JSON has one kind of number: 1.0 is 1.
            whole = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
            return bytes(whole)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidRequest(f"{name} has elements that are no UINT8", field=f"inputs.{name}") from None
