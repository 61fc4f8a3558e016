"""Clients that leave, dawdle, flood or lie, on a real socket. None may hang, crash or starve the service."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service.rest.transport.bounded_protocol import BoundedProtocol
from service.settings import Settings
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.small import Small
from tests.unit.rest.wired import QuickProtocol, Wire, Wired, until, wired

HOST = b"Host: localhost\r\n"


def form(previous: Pixels, current: Pixels) -> bytes:
    """A whole request."""
    body = b""
    for name, pixels in (("previous", previous), ("current", current)):
        body += b'--X\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % name.encode() + file_of(pixels, "PNG")
        body += b"\r\n"
    body += b"--X--\r\n"
    head = b"POST /v1/predict HTTP/1.1\r\n" + HOST
    head += b"Content-Type: multipart/form-data; boundary=X\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


async def still_serves(service: Wired) -> None:
    async with service.connect() as wire:
        await wire.send(b"GET /v1/model HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await wire.answer()).status == 200


class TestLeaving:
    async def test_a_request_whose_client_left_is_withdrawn_and_never_run(
        self, previous: Pixels, current: Pixels, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with wired() as service:
            engine = service.small.engine
            engine.hold = asyncio.Event()
            with caplog.at_level(logging.INFO, "service.access"):
                async with service.connect() as wire:
                    await wire.send(form(previous, current))
                    await until(lambda: len(engine.requests) == 1)
                    wire.leave()
                    await until(lambda: engine.withdrawn != [])
                await until(lambda: cancelled(service.small) == 1)
            engine.hold.set()
            await still_serves(service)
            assert engine.ran == []
            assert vars(caplog.records[0])["status"] == 499

    async def test_many_leave_and_the_one_who_stays_is_answered(self, previous: Pixels, current: Pixels) -> None:
        async with wired() as service:
            engine = service.small.engine
            engine.hold = asyncio.Event()
            async with service.connect() as stays:
                await stays.send(form(previous, current))
                await until(lambda: len(engine.requests) == 1)
                leavers = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(30)]
                for _, writer in leavers:
                    writer.write(form(previous, current))
                await until(lambda: len(engine.requests) == 31)
                for _, writer in leavers:
                    writer.transport.abort()
                await until(lambda: len(engine.withdrawn) == 30)
                engine.hold.set()
                assert (await stays.answer()).status == 200
            assert engine.ran == [engine.requests[0].id]

    async def test_a_client_that_leaves_within_its_body_asks_nothing(self, previous: Pixels, current: Pixels) -> None:
        async with wired() as service:
            async with service.connect() as wire:
                await wire.send(form(previous, current)[:-100])
                wire.leave()
            await until(lambda: cancelled(service.small) == 1)
            assert service.small.engine.requests == []

    async def test_an_answer_keeps_the_connection_for_the_next_request(self, previous: Pixels, current: Pixels) -> None:
        async with wired() as service, service.connect() as wire:
            for _ in range(3):
                await wire.send(form(previous, current))
                assert (await wire.answer()).status == 200

    async def test_pipelined_requests_are_answered_in_order(self, previous: Pixels, current: Pixels) -> None:
        async with wired() as service, service.connect() as wire:
            await wire.send(form(previous, current) * 3)
            answers = [await wire.answer() for _ in range(3)]
            assert [answer.status for answer in answers] == [200] * 3


def cancelled(small: Small) -> float:
    labels = {"transport": "rest", "endpoint": "/v1/predict", "outcome": "cancelled"}
    return small.metric("dmvfn_requests_total", **labels)


class TestDawdling:
    async def test_a_body_that_never_ends_is_refused_in_time(self, previous: Pixels, current: Pixels) -> None:
        async with wired(Settings(body_timeout_s=0.2)) as service, service.connect() as wire:
            await wire.send(form(previous, current)[:-100])
            answer = await wire.answer()
            assert (answer.status, answer.json()["reason"]) == (408, "body_timeout")
            assert answer.headers["connection"] == "close"
            assert await wire.closed()
            await still_serves(service)

    async def test_a_head_that_never_ends_is_refused_in_time(self) -> None:
        async with wired(protocol=QuickProtocol) as service, service.connect() as wire:
            await wire.send(b"GET /v1/model HTTP/1.1\r\nX-Slow: ")
            assert (await wire.answer()).status == 408
            assert await wire.closed()
            await still_serves(service)

    async def test_a_client_that_does_not_read_is_dropped(self, current: Pixels) -> None:
        async with wired(protocol=QuickProtocol) as service:
            large = bytes(3 * 1024 * 1024 * 2)
            head = b"POST /v1/predict?steps=16 HTTP/1.1\r\n" + HOST + b"Accept: application/octet-stream\r\n"
            head += b"X-Frame-Shape: 1024,1024\r\nContent-Type: application/octet-stream\r\n"
            async with service.connect() as wire:
                wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await wire.send(head + b"Content-Length: %d\r\n\r\n" % len(large) + large)
                await until(lambda: service.small.engine.ran != [])
                await until(lambda: not service.server.server_state.connections)
            await still_serves(service)

    async def test_an_answer_that_is_small_enough_to_wait_unread_is_dropped_with_its_reader(self) -> None:
        async with wired(protocol=QuickProtocol, send_buffer=4096) as service:
            side = 112  # an answer of 37 kB: below the mark from which on the transport makes its writer wait
            head = b"POST /v1/predict HTTP/1.1\r\n" + HOST + b"Accept: application/octet-stream\r\n"
            head += b"X-Frame-Shape: %d,%d\r\nContent-Type: application/octet-stream\r\n" % (side, side)
            body = bytes(2 * 3 * side * side)
            async with service.connect(receive_buffer=4096) as wire:
                wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await wire.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await until(lambda: service.small.engine.ran != [])
                await until(lambda: not service.server.server_state.connections)

    async def test_a_websocket_behind_an_answer_that_is_not_read_is_refused(self) -> None:
        """What the answer held was given back never: nobody told its request that the client had left."""
        async with wired() as service:
            body = bytes(3 * 1024 * 1024 * 2)
            head = b"POST /v1/predict?steps=16 HTTP/1.1\r\n" + HOST + b"Accept: application/octet-stream\r\n"
            head += b"X-Frame-Shape: 1024,1024\r\nContent-Type: application/octet-stream\r\n"
            async with service.connect() as wire:
                wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await wire.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                [protocol] = service.server.server_state.connections
                await until(lambda: protocol.flow.write_paused)  # type: ignore[union-attr]
                await wire.send(
                    b"GET /v1/stream HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                )
                await wire.send(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
                await until(protocol.transport.is_closing)
            await until(lambda: service.small.parts.budget.held == 0)
            await still_serves(service)


class TestFlooding:
    @pytest.mark.parametrize("head", [b"X: " + b"a" * 100_000, b"X: a\r\n" * 20_000])
    async def test_an_endless_head_is_refused(self, head: bytes) -> None:
        async with wired() as service:
            async with service.connect() as wire:
                await wire.send(b"GET /v1/model HTTP/1.1\r\n" + head[:9000])
                answer = await wire.answer()
                assert (answer.status, answer.json()["code"]) == (431, "invalid_request")
                assert await wire.closed()
            await still_serves(service)

    async def test_a_declared_flood_is_refused_and_the_refusal_arrives(self) -> None:
        async with wired(Settings(max_body_bytes=10_000)) as service, service.connect() as wire:
            await wire.send(b"POST /v1/predict HTTP/1.1\r\n" + HOST + b"Content-Length: 2000000\r\n\r\n")
            sending = asyncio.ensure_future(wire.send(bytes(2_000_000)))
            answer = await wire.answer()
            assert (answer.status, answer.json()["code"]) == (413, "too_large")
            await sending

    async def test_an_undeclared_flood_is_refused_where_the_limit_is_passed(self) -> None:
        async with wired(Settings(max_body_bytes=10_000)) as service, service.connect() as wire:
            head = b"POST /v1/predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
            await wire.send(head + b"Content-Type: application/json\r\n\r\n")
            flood = asyncio.ensure_future(flooding(wire))
            answer = await wire.answer()
            assert (answer.status, answer.json()["code"]) == (413, "too_large")
            assert await wire.closed()
            assert await flood

    async def test_thousands_of_requests_sent_ahead_are_refused_before_they_cost_anything(self) -> None:
        """Twenty connections' flood of four megabytes held up every other caller for twelve seconds."""
        async with wired() as service:
            async with service.connect() as wire:
                await wire.send(b"GET / HTTP/1.1\r\n\r\n" * 12_000)
                answer = await wire.answer()
                assert (answer.status, answer.json()["code"]) == (400, "invalid_request")
                assert "64 requests" in answer.json()["detail"]
                assert await wire.closed()
            await still_serves(service)

    async def test_endless_trailers_are_cut_off(self) -> None:
        async with wired() as service:
            async with service.connect() as wire:
                head = b"POST /v1/predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
                await wire.send(head + b"Content-Type: application/json\r\n\r\n2\r\n{}\r\n0\r\nX: ")
                assert await flooding(wire)
            await still_serves(service)


async def flooding(wire: Wire) -> bool:
    """Send without end; whether the server ended it (within a minute)."""
    try:
        async with asyncio.timeout(60):
            while True:
                await wire.send(b"400\r\n" + b"a" * 1024 + b"\r\n")
                await asyncio.sleep(0)
    except ConnectionError:
        return True
    except TimeoutError:
        return False


class TestLying:
    @pytest.mark.parametrize(
        "request_",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /v1/model HTTP/1.1\r\nHost small\r\n\r\n",
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        ],
    )
    async def test_what_is_no_http_gets_a_problem_and_is_closed(self, request_: bytes) -> None:
        async with wired() as service:
            async with service.connect() as wire:
                await wire.send(request_)
                answer = await wire.answer()
                assert 400 <= answer.status < 500
                assert answer.json()["code"] in ("invalid_request", "unsupported_media")
                assert await wire.closed()
            await still_serves(service)

    @pytest.mark.parametrize("is_at_once", [True, False])
    @pytest.mark.parametrize("trailer", [b"Authorization: Bearer correct-horse", b"Host: evil.example"])
    async def test_trailers_are_no_fields_of_the_head(
        self, trailer: bytes, is_at_once: bool, previous: Pixels, current: Pixels
    ) -> None:
        """Whoever looks at the head on the way, such as a proxy that takes keys or writes addresses, never saw them."""
        is_key = trailer.startswith(b"Authorization")
        head = b"POST /v1/predict HTTP/1.1\r\nX-Frame-Shape: 32,48\r\nContent-Type: application/octet-stream\r\n" + HOST
        head += b"Transfer-Encoding: chunked\r\n" + (b"" if is_key else b"Authorization: Bearer correct-horse\r\n")
        content = previous.tobytes() + current.tobytes()
        rest = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(content), content, trailer)
        async with wired(Settings(api_keys=(("anna", "correct-horse"),))) as service, service.connect() as wire:
            if is_at_once:
                await wire.send(head + b"\r\n" + rest)
            else:
                await wire.send(head + b"\r\n")
                await until(lambda: service.small.parts.work.count > 0 or is_key)
                await wire.send(rest)
            assert (await wire.answer()).status == (401 if is_key else 200)

    async def test_percent_signs_and_null_bytes_in_a_path_are_a_404(self) -> None:
        async with wired() as service:
            for path in (b"/%00", b"/%ff%fe", b"/v1/predict%2f", b"/..%2f..%2fetc/passwd", b"//"):
                async with service.connect() as wire:
                    await wire.send(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
                    assert (await wire.answer()).status == 404

    async def test_who_asks_before_sending_is_refused_without_being_heard(self) -> None:
        async with wired(Settings(max_body_bytes=10_000)) as service, service.connect() as wire:
            head = b"POST /v1/predict HTTP/1.1\r\n" + HOST
            await wire.send(head + b"Expect: 100-continue\r\nContent-Length: 20000\r\n\r\n")
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            assert await wire.closed()


def test_the_bounds_of_the_real_protocol_are_wide_enough_for_honest_clients() -> None:
    assert BoundedProtocol.max_head >= 16_384  # what common proxies let through
    assert BoundedProtocol.head_seconds >= 5
    assert BoundedProtocol.stall_seconds >= 10
