"""Keys with scopes and limits over HTTP and WebSocket: what each path needs, what is refused, and what headers tell."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from service.core.api_keys import Scope, read_keys
from service.rest.app import build
from service.rest.routes import demo, model, oip, operations, predict, stream, video
from service.rest.transport.paths import is_guarded, scope_of
from service.serving.jobs.local import LocalJobs
from service.settings import Settings
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.routes.test_stream import START, _everything, _frame, live
from tests.unit.rest.small import Small, running
from tests.unit.rpc.small import picture

RING = read_keys(
    """
    [limited]
    key = "limited-key"
    requests_per_s = 0.5
    burst = 2
    gflop = 3600
    [viewer]
    key = "viewer-key"
    scopes = []
    [predictor]
    key = "predictor-key"
    scopes = ["predict"]
    [scraper]
    key = "scraper-key"
    scopes = ["metrics"]
    [all]
    key = "all-of-it-key"
    """
)
#: Every path that needs a key, and the scope it needs. A new one is to be added here.
NEEDED = {
    "/v1/predict": Scope.PREDICT,
    "/v1/model": None,
    "/v1/video": Scope.CLIPS,
    "/v1/video/{job}": Scope.CLIPS,
    "/v1/video/{job}/result": Scope.CLIPS,
    "/v1/stream": Scope.STREAMS,
    "/debug/batcher": Scope.ADMIN,
    "/v2": None,
    "/v2/models/{model}/infer": Scope.PREDICT,
    "/v2/models/{model}/versions/{version}/infer": Scope.PREDICT,
}


@pytest.fixture
async def keyed() -> AsyncIterator[Small]:
    async with running() as small:
        small.parts.access.use(RING)
        yield small


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_every_path_that_needs_a_key_is_known_with_its_scope(small: Small) -> None:
    state = small.parts
    rooms = (predict, model, operations, oip, stream, demo, video)
    routes = [route for room in rooms for route in room.router(state).routes]
    paths = {route.path for route in routes if isinstance(route, APIRoute | WebSocketRoute)}
    assert NEEDED.keys() <= paths
    assert {path: scope_of(path) for path in NEEDED} == NEEDED
    # What is left only tells of the Open Inference Protocol's models, or refuses.
    others = {path for path in paths - NEEDED.keys() if is_guarded(path)}
    assert all(path.startswith("/v2/") and scope_of(path) is None for path in others)
    assert not [path for path in paths if path.startswith("/v2/health") and is_guarded(path)]


async def test_jobs_need_their_scope_and_a_prediction_that_is_wanted_later_does_too() -> None:
    assert [scope_of(f"/v1/jobs{rest}") for rest in ("", "/x", "/x/result")] == [Scope.JOBS] * 3
    async with running() as small:
        small.parts.access.use(RING)
        jobs = LocalJobs(small.parts.settings, small.engine, small.parts.metrics)
        transport = httpx.ASGITransport(build(small.parts, jobs=jobs))
        headers = bearer("predictor-key") | {"Prefer": "respond-async"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answer = await http.post("/v1/predict", headers=headers)
        await jobs.close()
    assert (answer.status_code, answer.json()["reason"]) == (403, "scope_jobs")


async def test_a_missing_scope_is_403_and_named(keyed: Small, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "service.access"):
        answer = await keyed.http.post("/v1/predict", headers=bearer("viewer-key"))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["reason"]) == (403, "permission_denied", "scope_predict")
    assert "'predict'" in problem["detail"]
    assert (await keyed.http.get("/v1/model", headers=bearer("viewer-key"))).status_code == 200
    assert (await keyed.http.get("/debug/batcher", headers=bearer("predictor-key"))).status_code == 403
    assert [vars(record)["client"] for record in caplog.records] == ["viewer"]


async def test_a_line_feed_behind_a_path_leads_around_no_scope(previous: Pixels, current: Pixels) -> None:
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    async with running(Settings(metrics_need_key=True)) as small:
        small.parts.access.use(RING)
        predicted = await small.http.post("/v1/predict%0A", files=files, headers=bearer("viewer-key"))
        others = [await small.http.get(f"{path}%0A") for path in ("/metrics", "/v1/model", "/healthz/live")]
    assert [answer.status_code for answer in (predicted, *others)] == [404] * 4
    assert small.engine.requests == []


@pytest.mark.parametrize("needs_key", [False, True])
async def test_metrics_take_a_key_with_their_scope_where_the_settings_say_so(needs_key: bool) -> None:
    async with running(Settings(metrics_need_key=needs_key)) as small:
        assert (await small.http.get("/metrics")).status_code == 200  # no keys are set
        small.parts.access.use(RING)
        keys = (None, "predictor-key", "scraper-key", "all-of-it-key")
        answers = [await small.http.get("/metrics", headers=bearer(key) if key else {}) for key in keys]
        refused = await small.http.post("/v1/predict", headers=bearer("scraper-key"))
    assert [answer.status_code for answer in answers] == ([401, 403, 200, 200] if needs_key else [200] * 4)
    assert (refused.status_code, refused.json()["reason"]) == (403, "scope_predict")


async def test_answers_tell_what_may_be_asked_and_what_is_left(keyed: Small, previous: Pixels, current: Pixels) -> None:
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    answer = await keyed.http.post("/v1/predict", files=files, headers=bearer("limited-key"))
    assert answer.status_code == 200
    assert answer.headers["ratelimit-policy"] == '"requests";q=2;w=4, "gflop";q=3600;w=3600;qu="gflop"'
    assert answer.headers["ratelimit"] == '"requests";r=1;t=2, "gflop";r=3600;t=0'
    assert "ratelimit" not in (await keyed.http.get("/v1/model", headers=bearer("all-of-it-key"))).headers
    assert "ratelimit" not in (await keyed.http.get("/healthz/live")).headers


async def test_beyond_the_rate_it_is_429_with_the_time_to_wait(keyed: Small) -> None:
    for _ in range(2):
        assert (await keyed.http.get("/v1/model", headers=bearer("limited-key"))).status_code == 200
    answer = await keyed.http.get("/v1/model", headers=bearer("limited-key"))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["reason"]) == (429, "rate_limited", "requests")
    assert 0 < problem["retry_after_ms"] <= 2000
    assert int(answer.headers["retry-after"]) >= 2
    assert answer.headers["ratelimit"].startswith('"requests";r=0;t=2')
    assert keyed.metric("dmvfn_rejected_total", reason="rate_requests", bucket="none") == 1
    # The caller's own doing: no objective of ours is missed by it.
    labels = {"transport": "rest", "endpoint": "unmatched", "outcome": "invalid"}
    assert keyed.metric("dmvfn_requests_total", **labels) == 1


@pytest.mark.parametrize(
    ("key", "code", "close"),
    [("viewer-key", "permission_denied", 1008), ("limited-key", "rate_limited", 1013)],
)
async def test_a_websocket_that_is_refused_says_why(key: str, code: str, close: int) -> None:
    async with live() as served:
        served.parts.access.use(RING)
        for _ in range(2):
            await served.parts.access.admit("limited-key", None)
        async with served.open(subprotocols=["dmvfn.v1", f"bearer.{key}"]) as socket:
            messages, close_code = await _everything(socket)
    assert ([message["code"] for message in messages], close_code) == ([code], close)


@pytest.mark.parametrize("conceal", [{}, {"conceal": {"fps": 30}}])
async def test_a_stream_ends_when_its_key_is_replaced_under_its_name(conceal: dict[str, object]) -> None:
    async with live() as served:
        served.parts.access.use(read_keys('[a]\nkey = "stream-key"'))
        async with served.open(additional_headers=bearer("stream-key")) as socket:
            await socket.send(json.dumps({"type": "start", **conceal}))
            await socket.send(_frame(picture(0)))
            await socket.recv()
            served.parts.access.use(read_keys('[a]\nkey = "another-key"'))
            await socket.send(_frame(picture(1)))
            answers, close_code = await _everything(socket)
    assert (answers[-1]["code"], close_code) == ("unauthenticated", 1008)


async def test_a_websocket_at_a_path_with_a_line_feed_is_not_opened() -> None:
    async with live() as served:
        served.parts.access.use(RING)
        with pytest.raises(InvalidStatus, match="404"):
            async with connect(f"{served.url}%0A", additional_headers=bearer("viewer-key")):
                pass


@pytest.mark.parametrize(("limit", "client"), [(0, "the-stream"), (5, "address 127.0.0.1")])
async def test_a_stream_is_a_client_of_its_own_but_where_an_address_is_counted(limit: int, client: str) -> None:
    headers = {"X-Request-Id": "the-stream"}
    async with live(max_client_items=limit) as served, served.open(additional_headers=headers) as socket:
        for message in (START, _frame(picture(0)), _frame(picture(1)), '{"type": "end"}'):
            await socket.send(message)
        await _everything(socket)
        assert [request.client for request in served.engine.asked] == [client]


async def test_each_pair_of_a_stream_over_websocket_counts() -> None:
    async with live() as served:
        served.parts.access.use(read_keys('[a]\nkey = "stream-key"\nrequests_per_s = 0.001\nburst = 2'))
        async with served.open(additional_headers=bearer("stream-key")) as socket:
            await socket.send(START)
            for n in range(3):
                await socket.send(_frame(picture(n)))
            await socket.send('{"type": "end"}')
            answers, close_code = await _everything(socket)
    assert [answer["type"] for answer in answers] == ["first", "prediction", "error"]
    assert (answers[2]["code"], close_code) == ("rate_limited", 1000)
