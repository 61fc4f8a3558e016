"""A clip that three worker processes predict, one of them killed on the way and the clip's maker with it.

It comes out the same to the byte as from one worker alone. `make clips` does it with 600 frames of 256x448.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from service.distributed.broker.keys import Keys
from service.settings import Settings
from tests.system.e2e.fleet import Member, fleet
from tests.system.e2e.process import PATIENCE, tiny_weights
from tests.unit.distributed.servers import running, shipped_acl
from tests.unit.serving.video.clips import moving, y4m

Y4M = {"Accept": "video/x-yuv4mpeg2"}
#: Clips that may be whole before they are hit: a machine may be quick with them and slow with us.
TRIES = 5


def frames_of(member: Member, source: str) -> float:
    """Predicted frames of clips that this front end made: predicted for it, or kept by one before."""
    name = f'dmvfn_clip_frames_total{{source="{source}"}} '
    lines = httpx.get(f"{member.http}/metrics", timeout=PATIENCE).text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def send(member: Member, number: signal.Signals) -> None:
    assert member.process.pid is not None
    os.kill(member.process.pid, number)


def kill(member: Member) -> None:
    member.process.kill()
    member.process.join()


def post(member: Member, body: bytes, **headers: str) -> httpx.Response:
    answer = httpx.post(f"{member.http}/v1/video?ahead=1", content=body, headers=Y4M | headers, timeout=10 * PATIENCE)
    assert answer.status_code in (200, 202), answer.text
    return answer


def done(member: Member, path: str, seconds: float) -> None:
    """Returns when the clip is made."""
    end = time.monotonic() + seconds
    shown: dict[str, object] = {}
    while time.monotonic() < end:
        shown = httpx.get(f"{member.http}{path}?wait=5", timeout=PATIENCE).json()
        if shown["state"] == "done":
            return
        assert shown["state"] in ("queued", "running"), shown
    raise AssertionError(f"the clip does not end: {shown}")


@contextlib.contextmanager
def paused(workers: list[Member]) -> Iterator[None]:
    for worker in workers:
        send(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            if worker.process.is_alive():
                send(worker, signal.SIGCONT)


def lapse(client: redis.Redis) -> None:
    """End the leases of clips now: whoever had them is dead."""
    leases = Keys(Settings().redis_queue).clip_leases
    for member, _ in client.zscan_iter(leases):
        client.zadd(leases, {member: 0})


def hit(fronts: list[Member], workers: list[Member], client: redis.Redis, bodies: list[bytes]) -> tuple[str, bytes]:
    """Kill a clip's maker and a worker once a range of it is kept; its path and body."""
    for body in bodies:
        path = post(fronts[0], body, Prefer="respond-async").headers["location"]
        record = Keys(Settings().redis_queue).job(path.rpartition("/")[2])
        end = time.monotonic() + 4 * PATIENCE
        while not int(client.hget(record, "ranges") or 0):
            assert time.monotonic() < end, client.hgetall(record)
            time.sleep(0.002)
        with paused(workers):
            if client.hget(record, "s") != b"running":
                continue
            maker = max(fronts, key=lambda front: frames_of(front, "predicted"))
            kill(maker)
            kill(workers.pop())
            fronts.remove(maker)
            lapse(client)
            return path, body
    raise AssertionError("every clip was whole before it could be hit")


@pytest.mark.parametrize(
    ("count", "height", "width"), [(60, 64, 96), pytest.param(600, 256, 448, marks=pytest.mark.slow)]
)
def test_three_workers_one_killed_make_the_clip_that_one_makes(
    count: int, height: int, width: int, tmp_path: Path
) -> None:
    bodies = [y4m(moving(count, height, width, seed=k), chroma="420") for k in range(TRIES if count < 100 else 1)]
    settings = {"max_body_bytes": 2**28, "max_result_bytes": 2**31}
    with (
        running(acl=shipped_acl()) as server,
        fleet(server.url, tiny_weights(tmp_path), **settings) as members,
        contextlib.closing(server.client()) as client,
    ):
        started = members.start_all(*["work"] * 3, *["serve"] * 2)
        workers, fronts = started[:3], started[3:]
        path, body = hit(fronts, workers, client, bodies)
        done(fronts[0], path, max(4 * PATIENCE, 2 * count))
        kept = frames_of(fronts[0], "kept")
        result = httpx.get(f"{fronts[0].http}{path}/result", timeout=PATIENCE).content
        assert (kept >= 16, kept + frames_of(fronts[0], "predicted")) == (True, count - 2)
        kill(workers.pop())
        assert post(fronts[0], body).content == result
