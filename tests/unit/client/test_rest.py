from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dmvfn_client import (
    NEVER,
    AsyncClient,
    Busy,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Retry,
    ServiceFailed,
    Unauthenticated,
)

from tests.system.e2e.process import SAMPLES
from tests.unit.client.scripted import Reply, scripted
from tests.unit.client.serving import Serving

PREVIOUS, CURRENT = SAMPLES / "frame00.png", SAMPLES / "frame01.png"
SMALL = np.random.default_rng(5).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
QUICK = Retry(tries=3, first=0.01)
ANSWER: dict[str, object] = {
    "frames": [{"data": "", "route": "1" * 9, "flops": 1}],
    "model": "m",
}
FULL: dict[str, object] = {"code": "queue_full", "detail": "the queue is full", "retry_after_ms": 150}


def test_a_pair_becomes_the_next_frame_with_all_that_is_known_of_it(running: Serving) -> None:
    with Client(running.url) as dmvfn:
        answer = dmvfn.predict(PREVIOUS, CURRENT, route="100100100")
    assert answer.pixels.shape == (256, 448, 3)
    assert answer.image.size == (448, 256)
    assert (answer.route, answer.model, answer.seed) == ("100100100", "tiny", None)
    assert answer.flops > 0
    assert answer.request_id
    assert set(answer.timings_ms) == {"queue", "route", "blocks"}


def test_steps_maps_and_seeds_come_back(running: Serving) -> None:
    with Client(running.url) as dmvfn:
        answer = dmvfn.predict(SMALL[0], SMALL[1], steps=2, maps=True, route="sample", seed=7)
    assert len(answer.frames) == 2
    assert answer.seed == 7
    flow, mask = answer.frames[1].flow, answer.frames[1].mask
    assert flow is not None
    assert mask is not None
    assert (flow.shape, mask.shape) == ((32, 48, 4), (32, 48))
    assert flow.dtype == np.float32


async def test_the_async_client_gives_the_same_frames_many_at_once(running: Serving) -> None:
    with Client(running.url) as dmvfn:
        alone = await asyncio.to_thread(dmvfn.predict, SMALL[0], SMALL[1])
    async with AsyncClient(running.url) as dmvfn_:
        together = await asyncio.gather(*(dmvfn_.predict(SMALL[0], SMALL[1]) for _ in range(6)))
    assert all(np.array_equal(answer.pixels, alone.pixels) for answer in together)


async def test_a_cancelled_call_is_withdrawn(running: Serving) -> None:
    async with AsyncClient(running.url) as dmvfn:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await dmvfn.predict(PREVIOUS, CURRENT, steps=16, route="full")
        assert (await dmvfn.predict(SMALL[0], SMALL[1])).pixels.shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("call", "kind", "code", "field"),
    [
        (lambda d: d.predict(b"no picture", CURRENT), InvalidInput, "unsupported_media", "previous"),
        (lambda d: d.predict(SMALL[0], CURRENT), InvalidInput, "invalid_frame", "current"),
        (lambda d: d.predict(SMALL[0], SMALL[1], steps=99), InvalidInput, "invalid_request", "steps"),
        (lambda d: d.job("nothing"), NotFound, "not_found", None),
        (lambda d: d.job("../model"), InvalidInput, "invalid_request", None),
        (lambda d: d.submit([SMALL[0]]), InvalidInput, "invalid_request", "frames"),
    ],
)
def test_errors_are_of_their_own_kind_and_name_the_field(
    running: Serving, call: Callable[[Client], Any], kind: type[Exception], code: str, field: str | None
) -> None:
    with Client(running.url) as dmvfn, pytest.raises(kind) as caught:
        call(dmvfn)
    assert caught.value.code == code  # type: ignore[attr-defined]
    if field:
        assert caught.value.field == field  # type: ignore[attr-defined]


def test_a_key_is_needed_where_keys_are_set(guarded: Serving) -> None:
    with Client(guarded.url) as dmvfn, pytest.raises(Unauthenticated):
        dmvfn.model()
    with Client(guarded.url, api_key="correct-horse") as dmvfn:
        assert dmvfn.model()["version"] == "tiny"


def test_a_job_is_the_same_however_often_it_is_sent_and_its_frames_the_same_as_predicts(running: Serving) -> None:
    with Client(running.url) as dmvfn:
        job = dmvfn.submit(list(SMALL), idempotency_key="test-rest-1")
        assert dmvfn.submit(list(SMALL), idempotency_key="test-rest-1").id == job.id
        with pytest.raises(InvalidInput, match=r"\[conflict\]"):
            dmvfn.submit(list(SMALL[:2]), idempotency_key="test-rest-1")
        done = dmvfn.wait(job, timeout=60)
        assert (done.state, done.done, done.progress) == ("done", 2, 1.0)
        frames = dmvfn.result(job).frames
        for k in range(2):
            assert np.array_equal(frames[k].pixels, dmvfn.predict(SMALL[k], SMALL[k + 1]).pixels)


async def test_the_async_client_has_jobs_too(running: Serving) -> None:
    async with AsyncClient(running.url) as dmvfn:
        job = await dmvfn.submit(list(SMALL), steps=2)
        assert len((await dmvfn.result(job, timeout=60)).frames) == 4
        assert (await dmvfn.cancel(job)).state == "done"


def test_a_full_queue_is_tried_again_not_sooner_than_asked_and_told_what_time_is_left() -> None:
    with scripted(Reply(429, FULL), Reply(503, {}, {"Retry-After": "0"}), Reply(200, ANSWER)) as server:
        begun = time.monotonic()
        with Client(server.url, retry=QUICK, timeout=60) as dmvfn, pytest.raises(Exception, match="image"):
            dmvfn.predict(SMALL[0], SMALL[1])  # the scripted answer holds no picture: it got that far
        assert time.monotonic() - begun >= 0.15
    left = [int(asked["x-request-timeout-ms"]) for asked in server.asked]
    assert len(left) == 3
    assert left[0] > left[1] > left[2] > 0


async def test_the_async_client_tries_again_too() -> None:
    with scripted(Reply(429, FULL), Reply(0), Reply(400, {"code": "invalid_request", "detail": "no"})) as server:
        async with AsyncClient(server.url, retry=QUICK) as dmvfn:
            with pytest.raises(InvalidInput, match="no"):
                await dmvfn.predict(SMALL[0], SMALL[1])
    assert len(server.asked) == 3


def test_a_job_tried_again_keeps_its_key() -> None:
    accepted = {"id": "j", "state": "queued", "items": 1, "done": 0, "progress": 0.0}
    with scripted(Reply(503), Reply(202, accepted)) as server, Client(server.url, retry=QUICK) as dmvfn:
        assert dmvfn.submit(list(SMALL[:2])).id == "j"
    keys = {asked["idempotency-key"] for asked in server.asked}
    assert len(server.asked) == 2
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(429, FULL), Busy),
        (Reply(502), Busy),
        (Reply(500), ServiceFailed),
        (Reply(0), ConnectionFailed),
        (Reply(200, {}, {"Content-Type": "text/html"}), ServiceFailed),
        (Reply(200, {"frames": [{}]}), ServiceFailed),
        (Reply(200, {"frames": 5, "model": None}), ServiceFailed),
        (Reply(200, ANSWER, {"Content-Encoding": "gzip"}), ServiceFailed),  # as some proxies say of what is plain
        (Reply(429, {**FULL, "retry_after_ms": "soon"}), Busy),
        (Reply(429, {}, {"Retry-After": "\u00b2"}), Busy),
    ],
)
def test_what_goes_on_failing_is_raised_as_what_it_is(reply: Reply, kind: type[Exception]) -> None:
    with scripted(reply) as server, Client(server.url, retry=QUICK) as dmvfn, pytest.raises(kind):
        dmvfn.predict(SMALL[0], SMALL[1])
    retried = kind in (Busy, ConnectionFailed)
    assert len(server.asked) == (QUICK.tries if retried else 1)


def test_a_wait_longer_than_the_callers_time_ends_the_call_at_once() -> None:
    with scripted(Reply(429, {**FULL, "retry_after_ms": 60_000})) as server:
        begun = time.monotonic()
        with Client(server.url, timeout=30) as dmvfn, pytest.raises(Busy) as caught:
            dmvfn.predict(SMALL[0], SMALL[1])
    assert time.monotonic() - begun < 30
    assert caught.value.retry_after == 60


def test_too_little_time_is_a_deadline_exceeded(running: Serving) -> None:
    with Client(running.url, retry=NEVER) as dmvfn, pytest.raises(DeadlineExceeded):
        dmvfn.predict(PREVIOUS, CURRENT, steps=16, route="full", timeout=0.02)


def test_nobody_there_asks_whether_the_service_runs() -> None:
    with Client("http://127.0.0.1:9", retry=NEVER) as dmvfn, pytest.raises(ConnectionFailed, match="is the service"):
        dmvfn.model()
