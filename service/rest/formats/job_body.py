"""The bodies of POST /v1/jobs: those of /v1/predict, or many frames under the name `frames`. Apart, then decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from service.app_state import AppState
from service.core.errors import InvalidFrame, InvalidRequest, TooLarge
from service.core.types import Frame
from service.imaging.codec import FrameLimits
from service.rest.formats import multipart, predict_body
from service.rest.formats import params as options
from service.rest.formats.json_body import FEW, read_object
from service.rest.formats.predict_body import FRAMES, JSON, RAW, SHAPE_HEADER, Bytes
from service.rest.transport.body import read
from service.serving.byte_budget import ByteHolding
from service.serving.jobs.job import fingerprint

MANY = "frames"
#: Of a job: the first prediction needs a pair.
LEAST_FRAMES = 2
_SHAPE = re.compile(r"([0-9]{1,6}),([0-9]{1,6}),([0-9]{1,6}),3")


@dataclass(frozen=True, slots=True)
class JobBody:
    """Frames as they came, in order. `size` is (height, width) where they are raw pixels, None where they are files."""

    names: list[str]
    frames: list[Bytes]
    options: list[tuple[str, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None

    def fingerprint(self, query: list[tuple[str, str]]) -> str:
        """Hash what is asked, not how it was sent: a retry's form has another boundary and is the same request."""

        def pieces() -> Iterator[bytes]:
            yield repr((self.names, self.size, sorted(self.options), sorted(query))).encode()
            yield from map(bytes, self.frames)

        return fingerprint(pieces())

    async def decode(self, state: AppState, holding: ByteHolding) -> tuple[Frame, ...]:
        """Decode all frames, one after the other, each reserved before it is decoded.

        TooLarge where their pixels together are more than the queue may hold; QueueFull where there is no room now.
        """
        frames: list[Frame] = []
        pixel_bytes = 0

        def bounded(nbytes: int) -> None:
            if pixel_bytes + nbytes > state.settings.max_queue_bytes:
                raise TooLarge(f"a job's frames may have {state.settings.max_queue_bytes} bytes of pixels", field=where)

        def reserve(nbytes: int) -> None:
            bounded(nbytes)
            holding.grow(nbytes)

        for k, (name, data) in enumerate(zip(self.names, self.frames, strict=True)):
            where = name if name != MANY else f"{MANY}[{k}]"
            if self.size is None:
                frames.append(await state.codecs.decode(data, where, reserve))
            else:
                bounded(3 * self.size[0] * self.size[1])  # they are the body's, and counted with it
                frames.append(await state.codecs.raw(data, *self.size, where))
            pixel_bytes += frames[-1].pixels.nbytes
        return tuple(frames)


async def receive(request: Request, state: AppState) -> JobBody:
    """Read the body and take it apart."""
    kind = predict_body.body_kind(request)
    limit = state.settings.max_job_frames
    shape = _shape(request.headers.get(SHAPE_HEADER), limit, state.codecs.limits) if kind == RAW else None
    body = await read(request)

    def read_body() -> JobBody:
        if shape is not None:
            return _raw(body, shape)
        if kind == JSON:
            return _sorted(_json(body, limit), limit)
        return _sorted(multipart.parse(body, request.headers["content-type"], limit + len(options.NAMES)), limit)

    return await predict_body.run_apart(read_body, kind, len(body))


def _shape(header: str | None, limit: int, limits: FrameLimits) -> tuple[int, int, int]:
    """Return count, height and width of raw frames. Errors name the header."""
    match = _SHAPE.fullmatch((header or "").replace(" ", ""))
    if match is None:
        raise InvalidRequest(f"raw pixels need {SHAPE_HEADER}: COUNT,HEIGHT,WIDTH,3", field=SHAPE_HEADER)
    count, height, width = map(int, match.groups())
    _check_count(count, limit, SHAPE_HEADER)
    limits.check(width, height, SHAPE_HEADER)
    return count, height, width


def _check_count(count: int, limit: int, where: str) -> None:
    if count < LEAST_FRAMES:
        raise InvalidRequest(f"a job needs at least {LEAST_FRAMES} frames, not {count}", field=where)
    if count > limit:
        raise TooLarge(f"a job may have at most {limit} frames", field=where)


def _raw(body: bytes, shape: tuple[int, int, int]) -> JobBody:
    count, height, width = shape
    nbytes = height * width * 3
    if len(body) != count * nbytes:
        raise InvalidFrame(
            f"the body has {len(body)} bytes; {count} frames of {width}x{height} RGB take {count * nbytes}",
            field="body",
        )
    view = memoryview(body)
    return JobBody([MANY] * count, [view[k * nbytes : (k + 1) * nbytes] for k in range(count)], size=(height, width))


def _json(body: bytes, limit: int) -> list[tuple[str, Bytes]]:
    entries: list[tuple[str, Bytes]] = []
    # Twice: a data URL has a comma, which counts like a value.
    for name, value in read_object(body, max_values=2 * limit + FEW).items():
        if name == MANY:
            if not isinstance(value, list):
                raise InvalidRequest(f"{MANY} must be a list of image files in base64", field=MANY)
            entries += [(MANY, predict_body.base64_bytes(f"{MANY}[{k}]", one)) for k, one in enumerate(value)]
        elif name in FRAMES:
            entries.append((name, predict_body.base64_bytes(name, value)))
        elif name in options.NAMES and value is not None:
            entries.append((name, options.of_json(name, value).encode("utf-8", "surrogatepass")))
        elif name not in options.NAMES:
            raise _unknown(name)
    return entries


def _sorted(parts: list[tuple[str, Bytes]] | list[tuple[str, memoryview]], limit: int) -> JobBody:
    """Sort a pair by its names, or take frames in the order they came; the rest are options."""
    frames: list[tuple[str, Bytes]] = []
    texts: list[tuple[str, str]] = []
    for name, data in parts:
        if name == MANY or name in FRAMES:
            frames.append((name, data))
        elif name in options.NAMES:
            texts.append((name, predict_body.text(name, data)))
        else:
            raise _unknown(name)
    names = [name for name, _ in frames]
    if set(names) != {MANY} and sorted(names) != sorted(FRAMES):
        raise InvalidRequest(f"send {' and '.join(FRAMES)}, each once, or {MANY}", field=MANY)
    _check_count(len(frames), limit, MANY)
    if names[0] != MANY:
        frames.sort(key=lambda frame: FRAMES.index(frame[0]))
    return JobBody([name for name, _ in frames], [data for _, data in frames], texts)


def _unknown(name: str) -> InvalidRequest:
    name = options.shown(name)
    names = ", ".join((MANY, *FRAMES, *options.NAMES))
    return InvalidRequest(f"there is no field {name}; there are {names}", field=name)
