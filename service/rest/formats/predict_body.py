"""The three kinds of body that hold two frames: a form, JSON, and raw pixels. Apart, not yet decoded."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from starlette.requests import Request

from service.core.errors import InvalidFrame, InvalidRequest, UnsupportedMedia
from service.imaging.codec import FrameLimits
from service.rest.formats import multipart
from service.rest.formats import params as options
from service.rest.formats.json_body import FEW, apart, base64_in_pieces, read_object
from service.rest.transport.body import check_plain, read
from service.serving.prediction import Picture, PicturePair

FRAMES = ("previous", "current")
SHAPE_HEADER = "X-Frame-Shape"
MULTIPART, JSON, RAW = "multipart/form-data", "application/json", "application/octet-stream"

_SHAPE = re.compile(r"(2,)?([0-9]{1,6}),([0-9]{1,6})(?(1),3)")  # 2,H,W,3 or H,W
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,")
#: Bodies from here on are taken apart in a thread: a form's parts are only found, and raw pixels are not looked at.
LARGE = {MULTIPART: 8 * 2**20}

Bytes = bytes | memoryview
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PredictBody:
    """Both pictures as they came, and the options beside them."""

    pair: PicturePair
    options: list[tuple[str, str]]


async def receive(request: Request, limits: FrameLimits) -> PredictBody:
    """Read the body and take it apart. The kind and its header are checked before the body is read."""
    kind = body_kind(request)
    if kind == RAW:
        size = _shape(request.headers.get(SHAPE_HEADER), limits)
        return _raw(await read(request), size)
    body = await read(request)

    def read_body() -> PredictBody:
        return _json(body) if kind == JSON else _form(body, request.headers["content-type"])

    return await run_apart(read_body, kind, len(body))


def body_kind(request: Request) -> str:
    """Return the body's media type: MULTIPART, JSON or RAW. Raises UnsupportedMedia for others, or compressed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (MULTIPART, JSON, RAW):
        raise UnsupportedMedia(
            f"the body must be {MULTIPART}, {JSON} or {RAW}, not {options.shown(kind) or 'unnamed'}",
            field="Content-Type",
        )
    check_plain(request, "images")
    return kind


async def run_apart(read_body: Callable[[], T], kind: str, nbytes: int) -> T:
    """Run what takes a body of `nbytes` apart: off the event loop where that takes long."""
    if kind == JSON:
        return await apart(read_body, nbytes)
    return await asyncio.to_thread(read_body) if nbytes >= LARGE.get(kind, sys.maxsize) else read_body()


def _shape(header: str | None, limits: FrameLimits) -> tuple[int, int]:
    match = _SHAPE.fullmatch((header or "").replace(" ", ""))
    if match is None:
        raise InvalidRequest(f"raw pixels need {SHAPE_HEADER}: 2,HEIGHT,WIDTH,3 (or HEIGHT,WIDTH)", field=SHAPE_HEADER)
    height, width = int(match[2]), int(match[3])
    limits.check(width, height, SHAPE_HEADER)
    return height, width


def _raw(body: bytes, size: tuple[int, int]) -> PredictBody:
    height, width = size
    nbytes = height * width * 3
    if len(body) != 2 * nbytes:
        raise InvalidFrame(
            f"the body has {len(body)} bytes; two frames of {width}x{height} RGB take {2 * nbytes}", field="body"
        )
    view = memoryview(body)
    return PredictBody(PicturePair(Picture(view[:nbytes], size), Picture(view[nbytes:], size)), [])


def _form(body: bytes, content_type: str) -> PredictBody:
    return _sorted([(name, data) for name, data in multipart.parse(body, content_type)])


def _sorted(parts: Sequence[tuple[str, Bytes]]) -> PredictBody:
    """Sort the parts: frames by name, the rest as options."""
    frames: dict[str, Bytes] = {}
    texts: list[tuple[str, str]] = []
    for name, data in parts:
        if name in FRAMES:
            if name in frames:
                raise InvalidRequest(f"{name} is given twice", field=name)
            frames[name] = data
        elif name in options.NAMES:
            texts.append((name, text(name, data)))
        else:
            _unknown(name)
    for name in FRAMES:
        if name not in frames:
            raise InvalidRequest(f"{name} is missing", field=name)
    return PredictBody(PicturePair(Picture(frames["previous"]), Picture(frames["current"])), texts)


def _unknown(name: str) -> NoReturn:
    name = options.shown(name)
    raise InvalidRequest(f"there is no field {name}; there are {', '.join((*FRAMES, *options.NAMES))}", field=name)


def text(name: str, data: Bytes) -> str:
    """Read an option in a form."""
    if len(data) > 64:
        raise InvalidRequest(f"{name} is too long", field=name)
    try:
        return bytes(data).decode("ascii").strip()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} is not ASCII text", field=name) from None


def _json(body: bytes) -> PredictBody:
    entries: list[tuple[str, Bytes]] = []
    for name, value in read_object(body, max_values=FEW).items():
        if name in FRAMES:
            entries.append((name, base64_bytes(name, value)))
        elif name not in options.NAMES:
            _unknown(name)
        elif value is not None:
            entries.append((name, options.of_json(name, value).encode("utf-8", "surrogatepass")))
    return _sorted(entries)


def base64_bytes(name: str, value: object) -> bytes:
    """Decode a file in a JSON body, bare or as a data URL."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string: an image file in base64", field=name)
    if value.startswith(("http://", "https://")):
        raise InvalidFrame(f"{name} is an address, and none is fetched; send the file in base64", field=name)
    prefix = _DATA_URL.match(value)
    try:
        return base64_in_pieces(value[prefix.end() :] if prefix else value)
    except ValueError:
        raise InvalidFrame(
            f"{name} is not base64 in one line, with + and /, padded by = (RFC 4648)", field=name
        ) from None
