from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from service.app_state import AppState
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.frontend.queue_client import QueueClient
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.serving.jobs.job import Jobs
from service.serving.jobs.local import LocalJobs
from service.settings import Settings
from tests.unit.distributed.conftest import metrics, until
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import running, shipped_acl
from tests.unit.distributed.workers import working
from tests.unit.imaging.pictures import Pixels, file_of, noise


@dataclass
class House:
    """A service with jobs, the engine that does them, and a client."""

    client: httpx.AsyncClient
    engine: Adder
    jobs: Jobs

    async def post(self, *frames: Pixels, **more: str) -> httpx.Response:
        files = [("frames", ("f", png(frame))) for frame in frames]
        return await self.client.post("/v1/jobs", files=files, headers=more)

    async def done(self, path: str) -> dict[str, object]:
        found: dict[str, object] = {}

        async def final() -> bool:
            nonlocal found
            found = (await self.client.get(path, params={"wait": 5})).json()
            return found["state"] in ("done", "failed", "cancelled")

        await until(final)
        return found


def png(pixels: Pixels) -> bytes:
    return file_of(pixels, "PNG")


SETTINGS = {"api_keys": (("ann", "ann-key-1"), ("bob", "bob-key-1")), "lease_ms": 600, "max_job_frames": 8}


@pytest.fixture(params=["this process", "redis"])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    adder = Adder()
    key = {"Authorization": "Bearer ann-key-1"}
    if request.param == "redis":
        with running(acl=shipped_acl()) as server:
            settings = Settings(redis_url=server.url, **SETTINGS)  # type: ignore[arg-type]
            front = QueueClient(settings)
            instruments = metrics()
            remote = QueuedEngine(settings, front, instruments)
            jobs = RedisJobs(settings, front)
            await front.start()
            codecs = Codecs(FrameLimits.of(settings), 1, instruments)
            app = build(AppState(settings, remote, codecs, instruments), jobs=jobs)
            async with (
                working(settings, adder, front),
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url="http://localhost", headers=key
                ) as client,
            ):
                yield House(client, adder, jobs)
            codecs.close()
            await remote.close()
            await front.stop()
        return
    settings = Settings(**SETTINGS)  # type: ignore[arg-type]
    instruments = metrics()
    local = LocalJobs(settings, adder, instruments)
    codecs = Codecs(FrameLimits.of(settings), 1, instruments)
    app = build(AppState(settings, adder, codecs, instruments), jobs=local)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=key
    ) as client:
        yield House(client, adder, local)
    await local.close()
    codecs.close()


def pictures(count: int) -> list[Pixels]:
    return [noise(32, 48, k) for k in range(count)]


async def test_a_pair_becomes_a_job_whose_result_is_the_prediction(house: House) -> None:
    previous, current = pictures(2)
    files = {"previous": png(previous), "current": png(current)}
    posted = await house.client.post("/v1/jobs", files=files)
    assert (posted.status_code, posted.json()["durable"]) == (202, house.jobs.durable)
    assert (await house.done(posted.headers["location"]))["state"] == "done"
    raw = {"Accept": "application/octet-stream"}
    result = await house.client.get(f"{posted.headers['location']}/result", headers=raw)
    assert result.headers["x-frame-shape"] == "32,48,3"
    assert result.content == (previous + current).tobytes()
    assert result.headers["x-dmvfn-route"] == "100000000"


async def test_head_of_a_result_tells_whether_there_is_one_and_fetches_nothing(house: House) -> None:
    house.engine.gate = asyncio.Event()
    posted = await house.post(*pictures(2))
    path = posted.headers["location"]
    assert (await house.client.head(f"{path}/result")).status_code == 409
    events = await house.client.head(path, headers={"Accept": "text/event-stream"})
    assert (events.status_code, events.content) == (200, b"")  # not when the job is done: at once
    house.engine.gate.set()
    await house.done(path)
    head = await house.client.head(f"{path}/result")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("?wiat=3", "no option wiat; the options are wait"),
        ("?wait=0&wait=0", "wait is given twice"),
        ("/result?mpas=float16", "no option mpas; the options are item, image_quality, maps"),
        ("/result?item=0&item=1", "item is given twice"),
    ],
)
async def test_a_slip_in_a_query_is_told_not_ignored(house: House, query: str, why: str) -> None:
    posted = await house.post(*pictures(2))
    answer = await house.client.get(f"{posted.headers['location']}{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert why in answer.json()["detail"]
    withdrawn = await house.client.delete(f"{posted.headers['location']}?force=1")
    assert "no option force; this path has none" in withdrawn.json()["detail"]


async def test_a_caller_lists_its_own_jobs_newest_first(house: House) -> None:
    paths = [(await house.post(*pictures(count))).headers["location"] for count in (2, 3)]
    for path in paths:
        await house.done(path)
    shown = (await house.client.get("/v1/jobs")).json()["jobs"]
    assert [(job["links"]["self"], job["state"], job["items"]) for job in shown] == [
        (paths[1], "done", 2),
        (paths[0], "done", 1),
    ]
    await house.client.delete(paths[1])
    assert [job["links"]["self"] for job in (await house.client.get("/v1/jobs")).json()["jobs"]] == [paths[0]]
    bobs = await house.client.get("/v1/jobs", headers={"Authorization": "Bearer bob-key-1"})
    assert bobs.json() == {"jobs": []}


async def test_many_frames_give_a_prediction_for_each_neighbouring_pair(house: House) -> None:
    frames = pictures(5)
    posted = await house.post(*frames)
    assert posted.json()["items"] == 4
    assert (await house.done(posted.headers["location"]))["progress"] == 1.0
    raw = {"Accept": "application/octet-stream"}
    every = await house.client.get(f"{posted.headers['location']}/result", headers=raw)
    expected = [a + b for a, b in itertools.pairwise(frames)]
    assert every.headers["x-frame-shape"] == "4,32,48,3"
    assert every.content == b"".join(one.tobytes() for one in expected)
    third = await house.client.get(f"{posted.headers['location']}/result", headers=raw, params={"item": 2})
    assert third.content == expected[2].tobytes()
    assert (await house.client.get(f"{posted.headers['location']}/result", params={"item": 4})).status_code == 404


async def test_json_and_raw_bodies_make_the_same_job(house: House) -> None:
    frames = pictures(3)
    words = [base64.b64encode(png(frame)).decode() for frame in frames]
    by_json = await house.client.post("/v1/jobs", json={"frames": words, "blocks": 3})
    shape = {"X-Frame-Shape": "3,32,48,3", "Content-Type": "application/octet-stream"}
    by_raw = await house.client.post(
        "/v1/jobs", content=b"".join(f.tobytes() for f in frames), headers=shape, params={"blocks": 3}
    )
    answers = []
    for posted in (by_json, by_raw):
        assert (await house.done(posted.headers["location"]))["state"] == "done"
        raw = {"Accept": "application/octet-stream"}
        answers.append((await house.client.get(f"{posted.headers['location']}/result", headers=raw)).content)
    assert answers[0] == answers[1]
    assert {r.options.route.blocks for r in house.engine.seen} == {3}


async def test_one_key_and_one_request_make_one_job_and_another_request_conflicts(house: House) -> None:
    one, two, three = pictures(3)
    first = await house.post(one, two, **{"Idempotency-Key": "k1"})
    again = await house.post(one, two, **{"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = await house.post(one, three, **{"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    await house.done(first.headers["location"])
    assert len(house.engine.seen) == 1
    bobs = await house.post(one, three, **{"Idempotency-Key": "k1", "Authorization": "Bearer bob-key-1"})
    assert bobs.status_code == 202


async def test_a_job_is_its_owners_alone(house: House) -> None:
    posted = await house.post(*pictures(2))
    path = posted.headers["location"]
    bob = {"Authorization": "Bearer bob-key-1"}
    assert (await house.client.get(path, headers=bob)).status_code == 404
    assert (await house.client.get(f"{path}/result", headers=bob)).status_code == 404
    assert (await house.client.delete(path, headers=bob)).status_code == 404
    assert (await house.done(path))["state"] == "done"


async def test_a_cancelled_job_is_withdrawn_from_the_device(house: House) -> None:
    house.engine.gate = asyncio.Event()
    posted = await house.post(*pictures(2))
    await until(lambda: house.engine.running == 1)
    gone = await house.client.delete(posted.headers["location"])
    assert gone.json()["state"] == "cancelled"
    await until(lambda: house.engine.running == 0)
    result = await house.client.get(f"{posted.headers['location']}/result")
    assert (result.status_code, result.json()["code"]) == (409, "conflict")


async def test_a_waiting_get_answers_when_the_job_moves(house: House) -> None:
    house.engine.gate = asyncio.Event()
    posted = await house.post(*pictures(2))
    await until(lambda: house.engine.running == 1)
    path = posted.headers["location"]
    assert (await house.client.get(path)).json()["state"] == "running"
    waiting = asyncio.create_task(house.client.get(path, params={"wait": 30}))
    house.engine.gate.set()
    assert (await asyncio.wait_for(waiting, 60)).json()["state"] == "done"


async def test_events_tell_every_step_to_the_end(house: House) -> None:
    house.engine.gate = asyncio.Event()
    posted = await house.post(*pictures(2))
    await until(lambda: house.engine.running == 1)
    house.engine.gate.set()
    stream = await house.client.get(posted.headers["location"], headers={"Accept": "text/event-stream"})
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in stream.text.strip().split("\n\n")]
    assert events[-1][:2] == ["id: done-1", "event: done"]
    assert json.loads(events[-1][2].removeprefix("data: "))["progress"] == 1.0


async def test_a_reader_of_events_that_comes_again_is_told_the_rest_and_then_to_stay_away(house: House) -> None:
    """A browser asks for an ended stream again, every few seconds, until it is answered with 204."""
    house.engine.gate = asyncio.Event()
    path = (await house.post(*pictures(2))).headers["location"]
    await until(lambda: house.engine.running == 1)
    house.engine.gate.set()
    await house.done(path)

    async def events_after(last: str) -> httpx.Response:
        return await house.client.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": last})

    again = await events_after("running-0")
    assert [line for line in again.text.split("\n") if line.startswith("id: ")] == ["id: done-1"]
    assert again.headers["x-accel-buffering"] == "no"  # nginx would keep events until there are kilobytes of them
    assert (await events_after("done-1")).status_code == 204


async def test_predict_makes_a_job_of_it_if_the_caller_prefers_that(house: House) -> None:
    previous, current = pictures(2)
    files = {"previous": png(previous), "current": png(current)}
    posted = await house.client.post("/v1/predict", files=files, headers={"Prefer": "wait=5, respond-async"})
    assert (posted.status_code, posted.headers["preference-applied"]) == (202, "respond-async")
    assert (await house.done(posted.headers["location"]))["state"] == "done"
    assert (await house.client.post("/v1/predict", files=files)).status_code == 200


@pytest.mark.parametrize(
    ("frames", "query", "status", "field"),
    [
        (1, {}, 400, "frames"),
        (9, {}, 413, "frames"),
        (2, {"deadline_ms": "5"}, 400, "deadline_ms"),
        (2, {"webhook": "http://127.0.0.1/"}, 400, "webhook"),
        (2, {"colour": "red"}, 400, "colour"),
    ],
)
async def test_a_wrong_job_is_refused_on_arrival(
    house: House, frames: int, query: dict[str, str], status: int, field: str
) -> None:
    files = [("frames", png(frame)) for frame in pictures(frames)]
    refused = await house.client.post("/v1/jobs", files=files, params=query)
    assert (refused.status_code, refused.json()["field"]) == (status, field)
    assert house.engine.seen == []


async def test_frames_of_two_sizes_or_a_damaged_one_are_refused_by_number(house: House) -> None:
    small = np.zeros((16, 16, 3), np.uint8)
    unequal = await house.post(*pictures(2), small)
    assert (unequal.status_code, unequal.json()["field"]) == (400, "frames[2]")
    files = [("frames", png(small)), ("frames", png(small)[:-20])]
    damaged = await house.client.post("/v1/jobs", files=files)
    assert (damaged.status_code, damaged.json()["field"]) == (422, "frames[1]")


async def test_all_results_are_sent_one_after_the_other(house: House) -> None:
    """In every form the whole is its items in a row."""
    frames = pictures(5)
    path = (await house.post(*frames)).headers["location"]
    await house.done(path)
    whole = (await house.client.get(f"{path}/result", headers={"Accept": "application/json"})).json()
    assert [step["step"] for step in whole["frames"]] == [1, 2, 3, 4]
    one = (await house.client.get(f"{path}/result?item=2", headers={"Accept": "application/json"})).json()
    assert whole["frames"][2]["data"] == one["frames"][0]["data"]
    assert whole["flops"] == sum(step["flops"] for step in whole["frames"])
    mixed = await house.client.get(f"{path}/result", headers={"Accept": "multipart/mixed, image/png"})
    assert mixed.content.count(b"\x89PNG") == 4
    raw = await house.client.get(f"{path}/result", headers={"Accept": "application/octet-stream"})
    assert raw.headers["x-frame-shape"] == "4,32,48,3"
