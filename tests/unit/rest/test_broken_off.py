"""An answer that its caller does not get whole is not counted or logged as answered, whoever broke it off."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from service.core.errors import Unavailable
from service.rest.app import build
from service.rest.routes import jobs as jobs_routes
from service.rest.routes import video
from service.rest.routes.job_events import events
from service.rest.transport import context
from service.serving.jobs.job import JobState, JobView
from service.serving.jobs.local import LocalJobs
from tests.unit.imaging.pictures import Pixels
from tests.unit.rest.routes.test_stream import START, _frame, live
from tests.unit.rest.small import Small, running
from tests.unit.rest.wired import QuickProtocol, Wire, Wired, until, wired
from tests.unit.rpc.small import picture
from tests.unit.serving.video.clips import moving, y4m

LARGE = bytes(3 * 1024 * 1024 * 2)
#: Two frames of a megapixel, of which eight come back: more than any socket holds.
REQUEST = (
    b"POST /v1/predict?steps=8 HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n"
    b"X-Frame-Shape: 1024,1024\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE
)


def outcomes(small: Small, endpoint: str, transport: str = "rest") -> dict[str, float]:
    """How often each outcome was counted."""
    return {
        sample.labels["outcome"]: sample.value
        for family in small.parts.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "dmvfn_requests_total"
        and (sample.labels["endpoint"], sample.labels["transport"]) == (endpoint, transport)
    }


@contextmanager
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[tuple[str, str | None]]]:
    """The outcome and the code of each line of the access log."""
    lines: list[tuple[str, str | None]] = []
    with caplog.at_level(logging.INFO, "service.access"):
        yield lines
    lines += [(vars(record)["outcome"], vars(record)["code"]) for record in caplog.records if "outcome" in vars(record)]


@asynccontextmanager
async def answering(service: Wired) -> AsyncIterator[Wire]:
    """A large answer under way, its head read."""
    async with service.connect() as wire:
        await wire.send(REQUEST)
        assert b" 200 " in await wire.reader.readline()
        yield wire


async def test_a_client_that_leaves_within_a_large_answer_was_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog) as lines:
        async with wired() as service:
            async with answering(service) as wire:
                wire.leave()
            await until(lambda: outcomes(service.small, "/v1/predict") != {})
            assert outcomes(service.small, "/v1/predict") == {"cancelled": 1}
    assert lines == [("cancelled", "cancelled")]


async def test_a_client_that_is_dropped_for_not_reading_was_not_answered() -> None:
    async with wired(protocol=QuickProtocol) as service, service.connect() as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(REQUEST)
        await until(lambda: outcomes(service.small, "/v1/predict") != {})
        assert outcomes(service.small, "/v1/predict") == {"cancelled": 1}


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
async def test_a_large_answer_that_is_read_to_its_end_is_one(header: bytes) -> None:
    async with wired() as service, service.connect() as wire:
        await wire.send(REQUEST.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n", 1))
        assert len((await wire.answer()).body) == 8 * len(LARGE) // 2
        await until(lambda: outcomes(service.small, "/v1/predict") != {})
        assert outcomes(service.small, "/v1/predict") == {"ok": 1}


#: The second, whose encoder looks ahead, sends nothing before many frames are predicted.
@pytest.mark.parametrize(
    "query", ["every=8 HTTP/1.1\r\nAccept: video/x-yuv4mpeg2", "every=2 HTTP/1.1\r\nAccept: video/mp4"]
)
async def test_a_client_that_leaves_while_its_clip_is_made_was_not_answered(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    clip = y4m(moving(30))
    with logged(caplog) as lines:
        async with wired() as service:
            small = service.small
            small.app.include_router(video.router(small.parts))
            async with service.connect() as wire:
                head = f"POST /v1/video?{query}\r\nHost: localhost\r\n"
                await wire.send(f"{head}Content-Length: {len(clip)}\r\n\r\n".encode() + clip[: len(clip) // 2])
                small.engine.hold = asyncio.Event()
                await wire.send(clip[len(clip) // 2 :])
                await until(lambda: small.engine.requests != [])
                wire.leave()
            await until(lambda: outcomes(small, "/v1/video") != {})
            assert outcomes(small, "/v1/video") == {"cancelled": 1}
            assert (len(small.engine.withdrawn), small.parts.budget.held) == (1, 0)
    assert lines == [("cancelled", "cancelled")]


@pytest.mark.parametrize(("leaves", "outcome"), [(True, "cancelled"), (False, "ok")])
async def test_a_jobs_events_are_whole_when_the_job_is_over(
    leaves: bool, outcome: str, previous: Pixels, current: Pixels
) -> None:
    async with wired() as service:
        small = service.small
        small.engine.hold = asyncio.Event()
        jobs = LocalJobs(small.parts.settings, small.engine, small.parts.metrics)
        service.server.config.loaded_app = build(small.parts, jobs=jobs)
        head = b"Host: localhost\r\nContent-Type: application/octet-stream\r\nX-Frame-Shape: 2,32,48,3\r\n"
        content = previous.tobytes() + current.tobytes()
        async with service.connect() as wire:
            await wire.send(
                b"POST /v1/jobs HTTP/1.1\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(content) + content
            )
            path = (await wire.answer()).headers["location"]
            await wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            await wire.reader.readuntil(b"event: ")
            if leaves:
                wire.leave()
            else:
                small.engine.hold.set()
            await until(lambda: outcomes(small, "/v1/jobs/{job}") != {})
        assert outcomes(small, "/v1/jobs/{job}") == {outcome: 1}
        await jobs.close()


async def test_events_that_end_in_an_error_are_one() -> None:
    """The status went out before: what the log and the metrics say is in the code."""

    class Lost(LocalJobs):
        async def changed(self, seen: JobView, client: str, seconds: float) -> JobView:
            raise Unavailable("the queue cannot be reached", reason="queue_lost")

    async with running() as small:
        jobs = Lost(small.parts.settings, small.engine, small.parts.metrics)
        request_context = context.begin(None, None, 0.0)
        view = JobView("job", JobState.RUNNING, 1, 0, 0.0)
        parts = (small.parts, jobs, view, request_context)
        told = [event async for event in events(*parts, lambda shown: jobs_routes.document(shown, jobs, ""))]
        await jobs.close()
    assert told[-1].startswith("event: error")
    assert request_context.code == "unavailable"


class TestWebSocket:
    """Streams are counted among the requests, by how they ended."""

    async def _ended(self, served: object, caplog: pytest.LogCaptureFixture) -> tuple[dict[str, float], object]:
        await until(lambda: outcomes(served, "/v1/stream", "websocket") != {})  # type: ignore[arg-type]
        code = [vars(record).get("close_code") for record in caplog.records if record.name == "service.access"]
        return outcomes(served, "/v1/stream", "websocket"), code[-1]  # type: ignore[arg-type]

    async def test_a_stream_that_was_closed_in_order_with_every_answer_is_whole(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "service.access")
        async with live() as served:
            async with served.open() as socket:
                await socket.send(_frame(picture(0)))
                assert json.loads(await socket.recv())["type"] == "first"
            assert await self._ended(served, caplog) == ({"ok": 1}, 1000)

    async def test_a_stream_that_was_closed_while_answers_were_owed_is_cut(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "service.access")
        async with live() as served:
            served.engine.gate.clear()
            async with served.open() as socket:
                await socket.send(START)
                for n in range(2):
                    await socket.send(_frame(picture(n)))
                await until(lambda: served.engine.asked != [])
            assert await self._ended(served, caplog) == ({"cancelled": 1}, 1000)

    async def test_a_stream_whose_connection_broke_is_cut(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "service.access")
        async with live() as served:
            served.engine.gate.clear()
            async with served.open() as socket:
                for n in range(2):
                    await socket.send(_frame(picture(0), str(n)))
                await until(lambda: served.engine.asked != [])
                socket.transport.abort()
            outcome, code = await self._ended(served, caplog)
            assert outcome == {"cancelled": 1}
            assert code in (1005, 1006)

    async def test_a_stream_that_our_stop_cuts_is_an_error(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "service.access")
        async with live() as served:
            served.engine.gate.clear()
            socket = await served.open()
            await socket.send(START)
            for n in range(2):
                await socket.send(_frame(picture(n)))
            await until(lambda: served.engine.asked != [])
        assert await self._ended(served, caplog) == ({"error": 1}, 1012)
        await socket.close()

    async def test_a_client_that_falls_silent_misses_no_objective_of_ours(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "service.access")
        async with live(stream_idle_s=0.01) as served, served.open():
            assert await self._ended(served, caplog) == ({"cancelled": 1}, None)

    async def test_a_stream_that_fails_here_is_an_error(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "service.access")
        async with live() as served, served.open() as socket:
            served.parts.streams.place = None  # type: ignore[method-assign, assignment]
            await socket.send(START)
            assert await self._ended(served, caplog) == ({"error": 1}, None)
