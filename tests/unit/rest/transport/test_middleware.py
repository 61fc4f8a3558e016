"""What every request passes: id, key, headers, log line, metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, WebSocket
from starlette.types import Message

from service.core.errors import QueueFull
from service.rest.app import build
from service.rest.transport import context
from service.settings import Settings
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.small import Small, running
from tests.unit.rest.wired import wired

KEYS = (("alice", "alice-key-1"), ("bob", "bob-key-22"))


@pytest.fixture
async def guarded() -> AsyncIterator[Small]:
    async with running(Settings(api_keys=KEYS)) as made:
        yield made


def files(previous: Pixels, current: Pixels) -> dict[str, bytes]:
    return {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}


class TestIds:
    async def test_a_sane_request_id_is_kept(self, small: Small, previous: Pixels, current: Pixels) -> None:
        answer = await small.http.post("/v1/predict", files=files(previous, current), headers={"X-Request-Id": "a.B-1"})
        assert answer.headers["x-request-id"] == "a.B-1"
        assert small.engine.requests[0].id == "a.B-1"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a\tb", "-a", "\xff"])
    async def test_any_other_is_replaced(self, small: Small, given: str) -> None:
        answer = await small.http.get("/v1/model", headers=[(b"X-Request-Id", given.encode("latin-1"))])
        assert answer.headers["x-request-id"] != given
        assert len(answer.headers["x-request-id"]) == 32

    async def test_the_callers_trace_goes_on(self, small: Small, previous: Pixels, current: Pixels) -> None:
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        answer = await small.http.post("/v1/predict", files=files(previous, current), headers={"traceparent": parent})
        passed_on = small.engine.requests[0].traceparent
        assert passed_on is not None
        assert passed_on == answer.headers["traceparent"]
        assert passed_on.split("-")[1] == parent.split("-")[1]
        assert passed_on.split("-")[2] != parent.split("-")[2]

    async def test_a_malformed_trace_starts_a_new_one(self, small: Small) -> None:
        answer = await small.http.get("/v1/model", headers={"traceparent": "nonsense"})
        assert len(answer.headers["traceparent"]) == 55


class TestKeys:
    @pytest.mark.parametrize("path", ["/v1/model", "/v1/nothing", "/v2", "/v2/models/dmvfn", "/debug/batcher"])
    async def test_without_a_key_nothing_guarded_is_reached(self, guarded: Small, path: str) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong-key"}, {"Authorization": "Basic YWxpY2U="}):
            answer = await guarded.http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", "/metrics", "/problems", "/openapi.json"])
    async def test_health_metrics_and_pages_stay_open(self, guarded: Small, path: str) -> None:
        assert (await guarded.http.get(path)).status_code == 200

    async def test_v2_health_stays_open(self, guarded: Small) -> None:
        assert (await guarded.http.get("/v2/health/live")).status_code == 404  # open, but nobody serves it here

    async def test_a_key_names_the_client(self, guarded: Small, previous: Pixels, current: Pixels) -> None:
        headers = {"Authorization": "Bearer bob-key-22"}
        answer = await guarded.http.post("/v1/predict", files=files(previous, current), headers=headers)
        assert answer.status_code == 200
        assert guarded.engine.requests[0].client == "bob"

    async def test_without_keys_an_address_takes_turns_as_one_client(
        self, small: Small, previous: Pixels, current: Pixels
    ) -> None:
        """All keyless callers were one, and together had one client's share."""
        answer = await small.http.post("/v1/predict", files=files(previous, current))
        assert answer.status_code == 200
        assert small.engine.requests[0].client == "address 127.0.0.1"

    async def test_keys_are_never_logged(self, guarded: Small, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            for key in ("alice-key-1", "mistyped-key"):
                await guarded.http.get(f"/v1/model?key={key}", headers={"Authorization": f"Bearer {key}"})
        ours = [record for record in caplog.records if record.name.startswith("service")]
        assert len(ours) == 2
        for record in ours:
            assert "-key" not in str(vars(record))


class TestWebsockets:
    async def talk(self, small: Small, headers: dict[str, str]) -> list[Message]:
        """What a websocket route sends to a client with these headers."""
        routes = APIRouter()

        @routes.websocket("/v1/hello")
        async def hello(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text("hello " + context.of(socket).client)
            await socket.close()

        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "websocket", "path": "/v1/hello", "headers": raw, "query_string": b"", "subprotocols": []}
        await build(small.parts, [routes])(scope, receive, send)
        return sent

    async def test_one_without_a_key_is_told_so_and_closed(self, guarded: Small) -> None:
        """A refused handshake would be a bare 1006 in a browser's script, whatever its status."""
        opened, told, closed = await self.talk(guarded, {"Sec-WebSocket-Protocol": "bearer.wrong-key"})
        assert (opened["type"], opened["subprotocol"]) == ("websocket.accept", None)
        assert json.loads(told["text"])["code"] == "unauthenticated"
        assert (closed["type"], closed["code"], closed["reason"]) == ("websocket.close", 1008, "unauthenticated")

    async def test_one_for_a_foreign_host_is_closed_unopened(self, small: Small) -> None:
        headers = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
        start, body = await self.talk(small, headers)
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 400)
        assert json.loads(body["body"])["field"] == "Host"

    @pytest.mark.parametrize(
        "headers",
        [{"Authorization": "Bearer alice-key-1"}, {"Sec-WebSocket-Protocol": "dmvfn, bearer.alice-key-1"}],
    )
    async def test_its_key_comes_by_header_or_subprotocol(self, guarded: Small, headers: dict[str, str]) -> None:
        sent = await self.talk(guarded, headers)
        assert sent[1]["text"] == "hello alice"


class TestHeaders:
    @pytest.mark.parametrize("path", ["/v1/model", "/nothing", "/healthz/live", "/problems/internal"])
    async def test_every_answer_carries_the_security_headers(self, small: Small, path: str) -> None:
        headers = (await small.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-request-id"]
        assert "strict-transport-security" not in headers

    async def test_other_origins_are_shut_out_by_default(self, small: Small) -> None:
        answer = await small.http.get("/v1/model", headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in answer.headers

    async def test_named_origins_may_call_and_read_our_headers(self) -> None:
        async with running(Settings(cors_origins=("https://app.example",), api_keys=KEYS)) as small:
            ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
            preflight = await small.http.options("/v1/predict", headers=ask)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == "https://app.example"
            refused = await small.http.get("/v1/model", headers={"Origin": "https://app.example"})
            assert refused.status_code == 401
            assert refused.headers["access-control-allow-origin"] == "https://app.example"
            assert "X-Dmvfn-Route" in refused.headers["access-control-expose-headers"]
            other = await small.http.options("/v1/predict", headers={**ask, "Origin": "https://elsewhere.example"})
            assert "access-control-allow-origin" not in other.headers


class TestRecords:
    async def test_a_request_is_logged_once_with_what_it_took(
        self, small: Small, previous: Pixels, current: Pixels, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            await small.http.post("/v1/predict", files=files(previous, current), headers={"X-Request-Id": "abc"})
        (record,) = [record for record in caplog.records if record.name == "service.access"]
        line = vars(record)
        assert (line["request_id"], line["endpoint"], line["status"]) == ("abc", "/v1/predict", 200)
        assert (line["outcome"], line["code"], line["route"]) == ("ok", None, "111111111")
        assert (line["width"], line["height"], line["batch_size"]) == (48, 32, 2)
        assert line["bytes_in"] > 0
        assert line["bytes_out"] > 0
        assert line["duration_ms"] >= line["decode_ms"] >= 0

    async def test_health_and_metrics_are_neither_logged_nor_counted(
        self, small: Small, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            for path in ("/healthz/live", "/healthz/ready", "/metrics"):
                await small.http.get(path)
        assert [record for record in caplog.records if record.name == "service.access"] == []
        assert "dmvfn_requests_total{" not in (await small.http.get("/metrics")).text

    async def test_the_endpoint_label_is_a_template_never_a_path(self, small: Small) -> None:
        for path in ("/problems/internal", "/problems/conflict", "/a", "/b", "/v2/models/x", "/v1/predict"):
            await small.http.get(path)

        def count(endpoint: str, transport: str = "rest", outcome: str = "invalid") -> float:
            return small.metric("dmvfn_requests_total", transport=transport, endpoint=endpoint, outcome=outcome)

        assert count("/problems/{code}", outcome="ok") == 2
        assert count("unmatched") == 2
        assert count("unmatched", transport="v2_rest") == 1
        assert count("/v1/predict") == 1

    @pytest.mark.parametrize(
        ("failure", "outcome"), [(QueueFull("full"), "rejected"), (ValueError("bug"), "error"), (None, "ok")]
    )
    async def test_outcomes_are_counted_by_kind(
        self, small: Small, previous: Pixels, current: Pixels, failure: Exception | None, outcome: str
    ) -> None:
        small.engine.failure = failure
        await small.http.post("/v1/predict", files=files(previous, current))
        labels = {"transport": "rest", "endpoint": "/v1/predict"}
        assert small.metric("dmvfn_requests_total", outcome=outcome, **labels) == 1
        assert small.metric("dmvfn_request_duration_seconds_count", **labels) == 1


class TestBodies:
    async def test_a_body_that_says_it_is_too_large_is_refused(self) -> None:
        async with running(Settings(max_body_bytes=2000)) as small:
            answer = await small.http.post("/v1/predict", content=bytes(2001))
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def test_a_body_that_grows_too_large_is_refused(self) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(500)

        async with running(Settings(max_body_bytes=2000)) as small:
            headers = {"Content-Type": "application/json"}
            sending = small.http.post("/v1/predict", content=limited(endless()), headers=headers)
            answer = await sending
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def test_bodies_together_are_bounded_and_given_back(self, previous: Pixels, current: Pixels) -> None:
        async with running(Settings(max_body_bytes=100_000, max_queue_bytes=1)) as small:
            sent = files(previous, current)
            for _ in range(30):  # together far more than the budget of one body
                assert (await small.http.post("/v1/predict", files=sent)).status_code == 200


async def limited(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A sender that stops at some point; httpx's in-process transport reads on as long as there is something."""
    count = 0
    async for chunk in source:
        yield chunk
        count += 1
        if count == 100:
            return


async def test_a_client_may_use_any_case_in_headers(small: Small) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(small.app), base_url="http://localhost") as http:
        answer = await http.get("/v1/model", headers={"x-REQUEST-id": "abc"})
    assert answer.headers["X-Request-Id"] == "abc"


class TestHosts:
    async def test_a_page_whose_name_was_made_to_lead_here_is_refused(self, small: Small) -> None:
        """DNS rebinding: a browser's script of evil.example, which now resolves to 127.0.0.1."""
        answer = await small.http.get("/v1/model", headers={"Host": "evil.example:8000"})
        assert (answer.status_code, answer.json()["field"]) == (400, "Host")
        assert "DMVFN_ALLOWED_HOSTS" in answer.json()["detail"]

    async def test_two_of_them_are_refused(self, small: Small) -> None:
        answer = await small.http.get("/v1/model", headers=[("Host", "localhost"), ("Host", "evil.example")])
        assert (answer.status_code, answer.json()["field"]) == (400, "Host")
        assert answer.json()["detail"] == "Host is given twice"

    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "a.localhost"])
    async def test_the_machines_own_names_are_taken(self, small: Small, host: str) -> None:
        assert (await small.http.get("/v1/model", headers={"Host": host})).status_code == 200

    async def test_probes_come_by_any_address(self, small: Small) -> None:
        for path in ("/healthz/live", "/healthz/ready", "/metrics"):
            assert (await small.http.get(path, headers={"Host": "10.2.3.4:8000"})).status_code == 200

    @pytest.mark.parametrize(
        ("settings", "host", "status"),
        [
            (Settings(http_host="0.0.0.0"), "anything.example", 200),
            (Settings(allowed_hosts=("dmvfn.example",)), "DMVFN.example:443", 200),
            (Settings(allowed_hosts=("dmvfn.example",)), "localhost", 400),
            (Settings(http_host="0.0.0.0", allowed_hosts=("*.example",)), "a.example", 200),
            (Settings(http_host="0.0.0.0", allowed_hosts=("*.example",)), "example", 400),
        ],
    )
    async def test_the_settings_name_others(self, settings: Settings, host: str, status: int) -> None:
        async with running(settings) as named:
            assert (await named.http.get("/v1/model", headers={"Host": host})).status_code == status


class TestHead:
    async def test_every_get_path_knows_head_with_the_same_headers(self, small: Small) -> None:
        """`wget --spider`, uptime monitors and `curl -I` ask so (RFC 9110 9.1)."""
        for path in ("/healthz/live", "/healthz/ready", "/metrics", "/v1/model", "/problems", "/openapi.json"):
            head, get = await small.http.head(path), await small.http.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["content-type"] == get.headers["content-type"]

    async def test_a_path_without_get_knows_no_head(self, small: Small) -> None:
        assert (await small.http.head("/v1/predict")).status_code == 405
        assert (await small.http.post("/v1/model")).headers["allow"] == "GET, HEAD"

    async def test_over_a_socket_no_body_follows(self) -> None:
        async with wired() as server, server.connect() as wire:
            await wire.send(b"HEAD /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await wire.reader.readuntil(b"\r\n\r\n")
            await wire.send(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert (await wire.answer()).json()["status"] == "live"
