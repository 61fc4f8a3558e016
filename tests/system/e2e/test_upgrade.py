"""An upgrade from the release before with work in flight: every accepted job ends right, and no call fails.

Processes of both releases on one Redis, as the shipped files run it: first the old ones, then both, then the new ones.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import pytest
from PIL import Image

from service.imaging.codec import ImageFormat, encode
from tests.system.chaos.releases import tree
from tests.system.e2e.process import PATIENCE, ROOT, Service, service_of, until_ready
from tests.system.e2e.test_jobs_across_restart import DeployedRedis, picture, stopped
from tests.tools import missing

#: What is upgraded from: a commit or a tag.
BEFORE = os.environ.get("UPGRADE_FROM", "6db3b52")
JOBS, FRAMES = 20, 60
#: Items of each job whose results are compared.
TRIED = (0, 1, FRAMES - 2)
#: For what takes a minute on a machine of its own, seconds.
LONG = 6 * PATIENCE
#: One route of the network, so that both releases predict by the same and a job's answer can be told to be right.
ROUTE = {"route": "full"}
CALL = {**ROUTE, "deadline_ms": "600000"}
FRONT = {"MAX_QUEUE_ITEMS": str(2 * JOBS * FRAMES)}
WORKER = {"WARMUP_SIZES": "32x48", "THREADS": "1"}

pytestmark = pytest.mark.slow


def frames_of(number: int) -> list[bytes]:
    """The frames of a job."""
    return [encode(picture((number + k) % JOBS), ImageFormat.PNG) for k in range(FRAMES)]


def pixels(png: bytes) -> bytes:
    """What a file shows: releases may write the same picture as other files."""
    return np.asarray(Image.open(io.BytesIO(png))).tobytes()


def submit(http: httpx.Client, number: int) -> str:
    answer = http.post("/v1/jobs", params=ROUTE, files=[("frames", frame) for frame in frames_of(number)])
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Callers:
    """One caller who asks any front end that is ready, and again where none took the call."""

    def __init__(self) -> None:
        self.fronts: list[Service] = []
        self.statuses: Counter[int] = Counter()
        self.answers: set[bytes] = set()
        self.rounds = 0
        self.is_over = False

    def ask_only(self, *fronts: Service) -> None:
        """Return when nobody is asked any more but these: as a pod leaves the endpoints before it goes."""
        self.fronts = list(fronts)
        rounds = self.rounds
        until(lambda: self.rounds > rounds + 1, "calls by the front ends that stay")

    def call(self) -> None:
        """Ask until it is over."""
        pair = dict(zip(("previous", "current"), frames_of(0), strict=False))
        while not self.is_over:
            for front in tuple(self.fronts):
                try:
                    answer = httpx.post(f"{front.http}/v1/predict", params=CALL, files=pair, timeout=LONG)
                except httpx.ConnectError:
                    continue  # it has gone: nothing was accepted
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.answers.add(pixels(answer.content))
            self.rounds += 1
            time.sleep(0.05)


def test_what_the_release_before_accepted_is_done_by_this_one() -> None:
    look = subprocess.run(["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if look.returncode:
        missing(f"commit {BEFORE} in this checkout (UPGRADE_FROM names one)")
    redis, callers = DeployedRedis("valkey-9"), Callers()
    before = tree(BEFORE)
    with ExitStack() as stack:
        stack.callback(redis.server.remove)
        redis.server.start()
        old_front = stack.enter_context(service_of(before, "serve", **redis.settings, **FRONT))
        old_worker = stack.enter_context(service_of(before, "work", **redis.settings, **WORKER))
        new_worker = stack.enter_context(service_of(ROOT, "work", **redis.settings, **WORKER))
        new_front = stack.enter_context(service_of(ROOT, "serve", **redis.settings, **FRONT))
        for member in (old_worker, old_front, new_worker, new_front):
            until_ready(member, LONG)  # an old one compiles its loops at its first start
        callers.fronts = [old_front, new_front]
        calling = stack.enter_context(ThreadPoolExecutor()).submit(callers.call)
        stack.callback(setattr, callers, "is_over", True)
        with httpx.Client(base_url=old_front.http, timeout=LONG) as http, ThreadPoolExecutor(JOBS) as threads:
            jobs = list(threads.map(lambda number: submit(http, number), range(JOBS)))
        until(lambda: states(new_front, jobs[:1])["done"] == 1, "a job's end while both releases run")
        # Workers first, as docs/deploy.md has it, then the front ends.
        old_worker.terminate()
        mixed = states(new_front, jobs)
        assert old_worker.exit_status(LONG) == 0, old_worker.output()
        callers.ask_only(new_front)
        old_front.terminate()
        assert old_front.exit_status(LONG) == 0, old_front.output()
        until(lambda: states(new_front, jobs)["done"] == JOBS, "the end of all jobs")
        callers.ask_only(new_front)
        callers.is_over = True
        calling.result()
        right = [asyncio.run(results(new_front, job, number)) for number, job in enumerate(jobs)]
        assert stopped(new_front) == 0, new_front.output()
        assert stopped(new_worker) == 0, new_worker.output()
    print(f"\n{BEFORE} accepted {JOBS} jobs of {FRAMES - 1} frames; when its worker had to go: {dict(mixed)}; then all")
    print(f"done, {sum(right)} results tried, all as this release predicts them; calls: {dict(callers.statuses)}")
    assert set(callers.statuses) == {200}
    assert len(callers.answers) == 1
    assert sum(right) == JOBS * len(TRIED)


def states(front: Service, jobs: list[str]) -> Counter[str]:
    """How many jobs are in which state."""
    answers = [httpx.get(f"{front.http}/v1/jobs/{job}", timeout=PATIENCE) for job in jobs]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    return Counter(str(answer.json()["state"]) for answer in answers)


async def results(front: Service, job: str, number: int) -> int:
    """Count the results of a job that are what a call of the same pair gets."""
    frames = frames_of(number)
    async with httpx.AsyncClient(base_url=front.http, timeout=LONG) as http:
        alike = 0
        for item in TRIED:
            previous, current = frames[item : item + 2]
            result = await http.get(f"/v1/jobs/{job}/result", params={"item": item})
            pair = {"previous": previous, "current": current}
            call = await http.post("/v1/predict", params=CALL, files=pair)
            assert (result.status_code, call.status_code) == (200, 200), result.text
            alike += pixels(result.content) == pixels(call.content)
    return alike
