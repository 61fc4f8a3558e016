"""A sound service, busy with calls and background work, rings no alert: its real series go on for twenty minutes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from tests.system.e2e.process import Service, service, until_ready
from tests.unit.deploy.promtool import RULES, alerts, promtool
from tests.unit.distributed.servers import SHIPPED_CONF, binary, shipped_acl
from tests.unit.distributed.servers import running as redis_running
from tests.unit.serving.video.clips import moving, y4m

HEIGHT, WIDTH = 128, 224
#: Jobs of each server that wait or run at any time, their predictions, and the steps of each.
JOBS, ITEMS, STEPS = 3, 30, 4
#: So many of a hundred predictions may take over a second: of more, and of slow answers, the machine is to blame.
MOST_SLOW = 5
#: Front ends over Redis, beside one worker.
FRONT_ENDS = 9
INTERVAL_S, MINUTES = 15, 20


#: A series' name and labels.
Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of one process: its value at two times, and whether it goes on as it went from one to the other."""

    name: str
    labels: dict[str, str]
    values: tuple[float, float]
    grows: bool

    def continued(self, seconds: float, instance: str) -> dict[str, str]:
        """As promtool's input. `seconds`: between the two values."""
        labels = {**self.labels, "instance": instance}
        text = ",".join(f"{name}={_quoted(value)}" for name, value in labels.items())
        first, second = self.values
        step = (second - first) / seconds * INTERVAL_S if self.grows else 0.0
        if self.name.endswith("oldest_age_seconds") and self.labels.get("priority") == "background":
            step = INTERVAL_S  # as of a job of many frames
        return {
            "series": f"{self.name}{{{text}}}",
            "values": f"{second!r}{step:+.9f}x{MINUTES * 60 // INTERVAL_S}",
        }


@contextlib.contextmanager
def deployment() -> Iterator[dict[str, Service]]:
    """A server that predicts, one that hands on through Redis, and its worker."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis_running(binary(), str(SHIPPED_CONF), acl=shipped_acl())).url
        processes = {
            "alone": stack.enter_context(service(wait=False, forked=True)),
            "front": stack.enter_context(service("serve", "--engine", "redis", wait=False, forked=True, REDIS_URL=url)),
            "worker": stack.enter_context(service("work", wait=False, forked=True, REDIS_URL=url)),
        }
        for name in ("alone", "worker", "front"):
            until_ready(processes[name])
        yield processes


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _scraped(url: str) -> Iterator[tuple[str, dict[str, str], float, bool]]:
    """Name, labels, value, and whether it goes on as it went: all counts do, gauges stay."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("dmvfn_") and not sample.name.endswith("_created"):
                yield sample.name, dict(sample.labels), sample.value, family.type != "gauge"


def _look(processes: dict[str, Service]) -> dict[str, dict[Key, tuple[float, bool]]]:
    return {
        role: {(name, tuple(labels.items())): (value, grows) for name, labels, value, grows in _scraped(process.http)}
        for role, process in processes.items()
    }


def _ppm(seed: int) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return f"P6 {WIDTH} {HEIGHT} 255\n".encode() + picture.repeat(8, 0).repeat(8, 1).tobytes()


async def _feed(http: httpx.AsyncClient, url: str) -> None:
    """Have jobs wait behind one another for ever, and look at the first until it has ended."""
    files = [("frames", (f"{k}.ppm", _ppm(k))) for k in range(ITEMS + 1)]
    jobs: deque[str] = deque()
    while True:
        while len(jobs) < JOBS:
            answer = await http.post(f"{url}/v1/jobs", files=files, params={"steps": STEPS})
            assert answer.status_code == 202, answer.text
            jobs.append(url + answer.headers["location"])
        state = (await http.get(jobs[0], params={"wait": 3})).json()["state"]
        assert state in ("queued", "running", "done")
        if state == "done":
            jobs.popleft()


async def _live(http: httpx.AsyncClient, processes: dict[str, Service]) -> list[float]:
    """Calls one after another, clips, and a stream; the seconds of each call."""
    pair, seconds = {"previous": _ppm(1), "current": _ppm(2)}, list[float]()

    async def calls(url: str) -> None:
        for _ in range(15):
            began = time.monotonic()
            (await http.post(f"{url}/v1/predict", files=pair)).raise_for_status()
            seconds.append(time.monotonic() - began)

    async def clip(url: str) -> None:
        headers = {"Accept": "video/x-yuv4mpeg2"}
        (await http.post(f"{url}/v1/video?every=2", content=y4m(moving(4)), headers=headers)).raise_for_status()

    urls = processes["alone"].http, processes["front"].http
    await asyncio.gather(*map(calls, urls), *map(clip, urls), _stream(processes["alone"].grpc))
    return seconds


async def _stream(address: str) -> None:
    async def frames() -> AsyncIterator[pb.StreamPredictRequest]:
        yield pb.StreamPredictRequest(start=pb.StreamStart(horizon=1))
        for seed in range(10):
            raw = pb.RawPicture(pixels=_ppm(seed)[-HEIGHT * WIDTH * 3 :], height=HEIGHT, width=WIDTH)
            yield pb.StreamPredictRequest(frame=pb.Frame(frame_id=str(seed), raw=raw))
            await asyncio.sleep(0.2)

    stub: Any = dmvfn_pb2_grpc.PredictionServiceStub  # generated, without types
    async with grpc.aio.insecure_channel(address) as channel:
        async for _ in stub(channel).StreamPredict(frames()):
            pass


async def _a_while_of(processes: dict[str, Service]) -> tuple[dict[str, list[Series]], float, list[float]]:
    """The series of each process before and after a while of all of it, the seconds in between and of each call."""
    async with httpx.AsyncClient(timeout=120) as http:
        urls = processes["alone"].http, processes["front"].http
        background = [asyncio.create_task(_feed(http, url)) for url in urls]
        await _live(http, processes)  # what a first request makes is there
        before, began = await asyncio.to_thread(_look, processes), time.monotonic()
        calls = [seconds for _ in range(2) for seconds in await _live(http, processes)]
        after, seconds = await asyncio.to_thread(_look, processes), time.monotonic() - began
        for task in background:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    series = {
        role: [
            Series(name, dict(labels), (before[role].get((name, labels), (0.0, grows))[0], value), grows)
            for (name, labels), (value, grows) in samples.items()
        ]
        for role, samples in after.items()
    }
    return series, seconds, calls


@pytest.mark.processes
@pytest.mark.measured
def test_a_busy_sound_service_rings_for_nobody(tmp_path: Path) -> None:
    with deployment() as processes:
        series, seconds, calls = asyncio.run(_a_while_of(processes))
    inputs: list[dict[str, str]] = []
    for role, count in (("alone", 1), ("front", FRONT_ENDS), ("worker", 1)):
        common = {"job": "dmvfn", "namespace": "dmvfn", "role": "worker" if role == "worker" else "server"}
        for number in range(count):
            instance = f"{role}-{number}"
            up = Series("up", common, (1.0, 1.0), grows=False)
            inputs.append(up.continued(seconds, instance))
            for one in series[role]:
                labelled = Series(one.name, {**one.labels, **common}, one.values, one.grows)
                inputs.append(labelled.continued(seconds, instance))
    aged = [one for one in inputs if "oldest_age_seconds" in one["series"] and 'priority="background"' in one["series"]]
    assert len(aged) == len(("alone", "worker")) + FRONT_ENDS
    names = [alert["alert"] for alert in alerts()]
    if sum(call > 1.0 for call in calls) * 100 > MOST_SLOW * len(calls):
        names = [name for name in names if not name.startswith("DmvfnLatency")]
    cases = [{"alertname": name, "eval_time": f"{MINUTES}m", "exp_alerts": []} for name in names]
    document = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": f"{INTERVAL_S}s",
        "tests": [{"interval": f"{INTERVAL_S}s", "input_series": inputs, "alert_rule_test": cases}],
    }
    path = tmp_path / "healthy.yml"
    path.write_text(yaml.safe_dump(document, width=1000))
    promtool("test", "rules", str(path))
