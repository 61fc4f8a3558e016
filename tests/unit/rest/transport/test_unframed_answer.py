"""What HTTP/1.0 is answered without a length: as it is, up to the end of the connection, and never in chunks.

ApacheBench asks in it, and proxies that were not told otherwise.
"""

from __future__ import annotations

import re

import pytest

from service.rest.app import build
from service.rest.routes import video
from service.serving.jobs.local import LocalJobs
from tests.unit.imaging.pictures import Pixels
from tests.unit.rest.transport.test_bounded_protocol import HEAD
from tests.unit.rest.wired import Wire, Wired, wired
from tests.unit.serving.video.clips import moving, y4m

CLIP = y4m(moving(12))


def _post(clip: bytes, version: str) -> bytes:
    head = f"POST /v1/video?every=8 HTTP/{version}\r\nHost: localhost\r\nAccept: video/x-yuv4mpeg2\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(clip)}\r\n\r\n".encode() + clip


async def _answer(wire: Wire) -> tuple[bytes, bytes]:
    """The head, in lower case, and everything up to the end of the connection."""
    head, _, body = (await wire.reader.read()).partition(b"\r\n\r\n")
    return head.lower(), body


def _without_chunks(body: bytes) -> bytes:
    content = b""
    while body:
        length, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(length, 16)], body[int(length, 16) + 2 :]
    return content


def _with_clips(service: Wired) -> None:
    service.small.app.include_router(video.router(service.small.parts))


async def test_a_clip_is_the_same_as_in_chunks() -> None:
    async with wired() as service:
        _with_clips(service)
        async with service.connect() as wire:
            await wire.send(_post(CLIP, "1.1"))
            head, body = await _answer(wire)
            assert b"transfer-encoding: chunked" in head
        async with service.connect() as wire:
            await wire.send(_post(CLIP, "1.0"))
            head, unframed = await _answer(wire)
    assert not re.search(rb"transfer-encoding|content-length", head)
    assert b"connection: close" in head
    assert unframed.startswith(b"YUV4MPEG2 ")
    assert unframed == _without_chunks(body)


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    async with wired() as service:
        _with_clips(service)
        async with service.connect() as wire:
            await wire.send(_post(CLIP[:-1000], "1.0"))
            with pytest.raises(ConnectionResetError):
                await wire.reader.read()


async def test_events_of_a_job_are_texts_alone(previous: Pixels, current: Pixels) -> None:
    content = previous.tobytes() + current.tobytes()
    async with wired() as service:
        small = service.small
        jobs = LocalJobs(small.parts.settings, small.engine, small.parts.metrics)
        service.server.config.loaded_app = build(small.parts, jobs=jobs)
        async with service.connect() as wire:
            await wire.send(HEAD.replace(b"predict", b"jobs") + b"Content-Length: %d\r\n\r\n" % len(content) + content)
            path = (await wire.answer()).headers["location"]
        async with service.connect() as wire:
            await wire.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            _, body = await _answer(wire)
        await jobs.close()
    assert body.startswith(b"id: ")
    assert all(re.match(rb"id: |: nothing new$", event) for event in body.removesuffix(b"\n\n").split(b"\n\n"))


async def test_a_length_that_is_known_is_told(previous: Pixels, current: Pixels) -> None:
    content = previous.tobytes() + current.tobytes()
    request = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Content-Length: %d\r\n\r\n" % len(content) + content
    async with wired() as service, service.connect() as wire:
        await wire.send(request)
        head, body = await _answer(wire)
    assert b"content-length: %d" % previous.nbytes in head
    assert len(body) == previous.nbytes


async def test_nobody_is_told_to_go_on_sending(previous: Pixels, current: Pixels) -> None:
    """What "Expect" wants, a client of HTTP/1.0 would take for the answer."""
    content = previous.tobytes() + current.tobytes()
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\n"
    async with wired() as service, service.connect() as wire:
        await wire.send(head + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        head, body = await _answer(wire)
    assert head.startswith(b"http/1.1 200")
    assert len(body) == previous.nbytes
