"""Clips as jobs over HTTP: the same whether this process keeps them or Redis does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from service.app_state import AppState
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.rest.formats import clip_name
from service.rest.routes import video
from service.serving.jobs.local import LocalJobs
from service.serving.jobs.video import VideoJobs
from service.serving.video.clip_resources import ClipResources
from service.settings import Settings
from tests.unit.distributed.clip_house import ANN, BOB, KEYS, LATER, clip_house
from tests.unit.distributed.conftest import metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.frontend.test_webhooks import Receiver, receiving
from tests.unit.distributed.servers import running, shipped_acl
from tests.unit.distributed.workers import working
from tests.unit.imaging.pictures import file_of, noise
from tests.unit.rest.small import running as small_service
from tests.unit.serving.video.clips import moving, y4m

BODY = y4m(moving(5))


@dataclass
class House:
    """A service that makes clips later, its engine and a client of it."""

    http: httpx.AsyncClient
    engine: Adder
    durable: bool
    receiver: Receiver

    async def post(
        self, body: bytes = BODY, query: str = "every=2", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return await self.http.post(f"/v1/video?{query}", content=body, headers={**LATER, **ANN, **(headers or {})})

    async def get(self, path: str, *headers: dict[str, str]) -> httpx.Response:
        return await self.http.get(
            path, headers={name: value for part in (ANN, *headers) for name, value in part.items()}
        )

    async def done(self, headers: dict[str, str]) -> str:
        path = str((await self.post(headers=headers)).headers["location"])
        async with asyncio.timeout(60):
            while (await self.get(f"{path}?wait=5")).json()["state"] != "done":
                pass
        return path


@pytest.fixture(params=["this process", "redis"])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    with receiving() as receiver:
        hooks = {"webhook_prefixes": (f"{receiver.url}/",), "webhook_secret": "s3cret"}
        adder = Adder()
        if request.param == "redis":
            with running(acl=shipped_acl()) as server:
                settings = Settings(engine="redis", redis_url=server.url, api_keys=KEYS, **hooks)  # type: ignore[arg-type]
                async with clip_house(settings) as here, working(settings, adder, here.front._front):
                    here.make()
                    yield House(here.http, adder, True, receiver)
            return
        settings = Settings(api_keys=KEYS, **hooks)  # type: ignore[arg-type]
        instruments = metrics()
        codecs = Codecs(FrameLimits.of(settings), 1, instruments)
        state = AppState(settings, adder, codecs, instruments)
        resources, jobs = ClipResources(state), LocalJobs(settings, adder, instruments)
        clips = VideoJobs(settings, resources, state.work, instruments)
        routes = video.router(state, resources, clips, jobs)
        transport = httpx.ASGITransport(build(state, (routes,), jobs=jobs, clips=clips))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield House(http, adder, False, receiver)
        await jobs.close()
        codecs.close()


async def test_a_result_is_read_in_ranges_under_its_own_tag_and_name(house: House) -> None:
    path = await house.done({"Content-Disposition": 'attachment; filename="films/last summer.mov"'})
    whole = await house.get(f"{path}/result")
    assert whole.headers["content-disposition"] == 'inline; filename="last summer.y4m"'
    tag, data = whole.headers["etag"], whole.content
    part = await house.get(f"{path}/result", {"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    same = await house.get(f"{path}/result", {"Range": "bytes=-7", "If-Range": tag})
    other = await house.get(f"{path}/result", {"Range": "bytes=-7", "If-Range": '"another"'})
    assert (same.content, other.content) == (data[-7:], data)
    behind = await house.get(f"{path}/result", {"Range": f"bytes={len(data)}-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert (await house.http.head(f"{path}/result", headers=ANN)).headers["content-length"] == str(len(data))
    for known in (tag, f'"another", W/{tag}', "*"):
        again = await house.get(f"{path}/result", {"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await house.get(f"{path}/result", {"If-None-Match": '"another"'})).content == data


async def test_the_same_key_and_clip_is_the_same_job_and_another_clip_a_conflict(house: House) -> None:
    first = await house.post(headers={"Idempotency-Key": "clip-17"})
    again = await house.post(headers={"Idempotency-Key": "clip-17"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["location"] == first.headers["location"]
    for different in (
        house.post(BODY + b"x", headers={"Idempotency-Key": "clip-17"}),
        house.post(BODY, "every=3", headers={"Idempotency-Key": "clip-17"}),
    ):
        answer = await different
        assert answer.status_code in (409, 422), answer.text
    bobs = await house.http.post(
        "/v1/video?every=2", content=BODY, headers={**LATER, **BOB, "Idempotency-Key": "clip-17"}
    )
    assert bobs.status_code == 202


async def test_events_tell_each_state_and_end_with_the_last(house: House) -> None:
    house.engine.gate = asyncio.Event()
    path = (await house.post()).headers["location"]
    reading = asyncio.ensure_future(house.get(path, {"Accept": "text/event-stream"}))
    await until(lambda: bool(house.engine.seen), 60)
    house.engine.gate.set()
    answer = await asyncio.wait_for(reading, 60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    documents = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    states = [document["state"] for document in documents]
    assert states[-1] == "done"
    assert "running" in states
    assert documents[-1]["durable"] is house.durable


async def test_a_caller_lists_its_own_clips_newest_first(house: House) -> None:
    paths = [(await house.post(y4m(moving(3, seed=k)))).headers["location"] for k in range(3)]
    await house.http.delete(paths[1], headers=ANN)
    shown = (await house.get("/v1/video")).json()["clips"]
    assert [clip["links"]["self"] for clip in shown] == [paths[2], paths[0]]
    assert (await house.get("/v1/video", BOB)).json() == {"clips": []}


async def test_without_keys_nobody_lists_the_clips_of_others() -> None:
    async with small_service() as small:
        transport = httpx.ASGITransport(build(small.parts, (video.router(small.parts),)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answer = await http.get("/v1/video")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_the_end_of_a_clip_is_told_to_its_webhook(house: House) -> None:
    refused = await house.post(query="every=2&webhook=http://elsewhere.example/")
    assert (refused.status_code, refused.json()["field"]) == (400, "webhook")
    url = f"/v1/video?every=2&webhook={house.receiver.url}/clips"
    assert (await house.http.post(url, content=BODY, headers=ANN)).json()["field"] == "webhook"
    posted = await house.post(query=f"every=2&webhook={house.receiver.url}/clips")
    await until(lambda: len(house.receiver.told) == 1, 60)
    path, signature, body = house.receiver.told[0]
    assert (path, signature[:2]) == ("/hook/clips", "t=")
    assert json.loads(body) == {"id": posted.json()["id"], "state": "done", "items": 5, "done": 5}


async def test_what_another_caller_sent_is_not_there(house: House) -> None:
    path = (await house.post()).headers["location"]
    for answer in (await house.get(path, BOB), await house.get(f"{path}/result", BOB)):
        assert answer.status_code == 404
    assert (await house.http.delete(path, headers=BOB)).status_code == 404


async def test_a_damaged_clip_is_refused_and_one_that_breaks_off_fails(house: House) -> None:
    assert (await house.post(b"no clip at all")).status_code == 422
    path = (await house.post(BODY[:-5])).headers["location"]
    async with asyncio.timeout(60):
        while (shown := (await house.get(f"{path}?wait=5")).json())["state"] != "failed":
            pass
    assert shown["error"]["code"] == "invalid_frame"
    assert (await house.get(f"{path}/result")).status_code == 422


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="file"; filename="a.b.mp4"', "a.b"),
        ("form-data; name=file", "clip"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\films\\\\x.mov"', "x"),
        ("attachment; filename*=UTF-8''S%C3%BCd.mp4", "Süd"),
        ('attachment; filename="a:b; c?.mp4"', "a_b_ c"),
        ('attachment; filename="..."', "clip"),
        ("", "clip"),
    ],
)
def test_a_result_is_called_what_its_clip_was(disposition: str, name: str) -> None:
    assert clip_name.stem(disposition) == name


async def test_an_id_of_the_other_kind_is_told_where_it_is(house: House) -> None:
    """A clip's id among jobs of frames, and the other way round; of nobody else's does anybody hear."""
    clip = (await house.post()).json()["id"]
    files = [("frames", file_of(noise(16, 16, seed), "PNG")) for seed in (1, 2)]
    answer = await house.http.post("/v1/jobs", files=files, headers=ANN)
    assert answer.status_code == 202, answer.text
    for there, here, ident in (("jobs", "video", clip), ("video", "jobs", answer.json()["id"])):
        for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
            refusal = await house.http.request(method, f"/v1/{there}/{ident}{path}", headers=ANN)
            assert refusal.status_code == 404
            assert f"/v1/{here}/{ident}" in refusal.json()["detail"], refusal.text
        others = await house.http.get(f"/v1/{there}/{ident}", headers=BOB)
        assert others.status_code == 404
        assert "/v1/" not in others.json()["detail"]
        assert (await house.get(f"/v1/{here}/{ident}")).status_code == 200
    unknown = await house.get("/v1/jobs/4dcb7dd4-0000-4000-8000-000000000000")
    assert unknown.status_code == 404
    assert "/v1/" not in unknown.json()["detail"]
