"""A sound service, busy with calls and background work, rings no alert: its real series go on for twenty minutes."""

from __future__ import annotations

import asyncio
import contextlib
import time
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
from tests.unit.distributed.servers import binary
from tests.unit.distributed.servers import running as redis_running
from tests.unit.serving.video.clips import moving, y4m

#: Of what runs in the background: a tiny network on one thread takes a fifteenth of a second for a step of it.
HEIGHT, WIDTH = 256, 448
#: So many predictions in the background of each of two devices, a quarter of a second each: more than are looked at.
JOBS, ITEMS, STEPS = 4, 30, 4
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
        return {
            "series": f"{self.name}{{{text}}}",
            "values": f"{second!r}{step:+.9f}x{MINUTES * 60 // INTERVAL_S}",
        }


@contextlib.contextmanager
def deployment() -> Iterator[dict[str, Service]]:
    """A server that predicts, one that hands on through Redis, and its worker."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis_running(binary())).url
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
    """Name, labels, value, and whether it grows: all counts do, and the age of what still waits."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("dmvfn_") and not sample.name.endswith("_created"):
                grows = family.type != "gauge" or (sample.name.endswith("age_seconds") and sample.value > 0)
                yield sample.name, dict(sample.labels), sample.value, grows


def _look(processes: dict[str, Service]) -> dict[str, dict[Key, tuple[float, bool]]]:
    return {
        role: {(name, tuple(labels.items())): (value, grows) for name, labels, value, grows in _scraped(process.http)}
        for role, process in processes.items()
    }


def _ppm(seed: int) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return f"P6 {WIDTH} {HEIGHT} 255\n".encode() + picture.repeat(8, 0).repeat(8, 1).tobytes()


async def _background(http: httpx.AsyncClient, url: str) -> list[str]:
    """Jobs that wait behind one another; where they are."""
    files = [("frames", (f"{k}.ppm", _ppm(k))) for k in range(ITEMS + 1)]
    answers = [await http.post(f"{url}/v1/jobs", files=files, params={"steps": STEPS}) for _ in range(JOBS)]
    assert [answer.status_code for answer in answers] == [202] * JOBS, answers[-1].text
    return [url + answer.headers["location"] for answer in answers]


async def _live(http: httpx.AsyncClient, processes: dict[str, Service], paths: list[str]) -> None:
    """Calls one after another, a clip, a stream; and whoever waits for the jobs asks again and again."""
    pair = {"previous": _ppm(1), "current": _ppm(2)}

    async def calls(url: str) -> None:
        for _ in range(15):
            (await http.post(f"{url}/v1/predict", files=pair)).raise_for_status()

    async def waits() -> None:
        for _ in range(2):
            await asyncio.gather(*(http.get(path, params={"wait": 2}) for path in paths))

    async def clip(url: str) -> None:
        answer = await http.post(
            f"{url}/v1/video?every=2", content=y4m(moving(4)), headers={"Accept": "video/x-yuv4mpeg2"}
        )
        answer.raise_for_status()

    urls = processes["alone"].http, processes["front"].http
    await asyncio.gather(waits(), *map(calls, urls), *map(clip, urls), _stream(processes["alone"].grpc))


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


async def _a_while_of(processes: dict[str, Service]) -> tuple[dict[str, list[Series]], float]:
    """The series of each process before and after a while of all of it, and the seconds in between."""
    async with httpx.AsyncClient(timeout=120) as http:
        urls = processes["alone"].http, processes["front"].http
        paths = [path for url in urls for path in await _background(http, url)]
        await _live(http, processes, paths[:1])  # what a first request makes is there
        before, began = await asyncio.to_thread(_look, processes), time.monotonic()
        await _live(http, processes, paths)
        after, seconds = await asyncio.to_thread(_look, processes), time.monotonic() - began
        states = [(await http.get(path)).json()["state"] for path in paths]
        for some in (states[:JOBS], states[JOBS:]):
            assert {"queued", "running"} & set(some), "too quick"
        for path in paths:
            await http.delete(path)
    series = {
        role: [
            Series(name, dict(labels), (before[role].get((name, labels), (0.0, grows))[0], value), grows)
            for (name, labels), (value, grows) in samples.items()
        ]
        for role, samples in after.items()
    }
    return series, seconds


@pytest.mark.processes
@pytest.mark.measured
def test_a_busy_sound_service_rings_for_nobody(tmp_path: Path) -> None:
    with deployment() as processes:
        series, seconds = asyncio.run(_a_while_of(processes))
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
    ages = [one for one in inputs if "oldest_age_seconds" in one["series"] and "background" in one["series"]]
    assert all(not one["values"].startswith("0.0") for one in ages if "front" not in one["series"]), "nothing waited"
    cases = [{"alertname": alert["alert"], "eval_time": f"{MINUTES}m", "exp_alerts": []} for alert in alerts()]
    document = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": f"{INTERVAL_S}s",
        "tests": [{"interval": f"{INTERVAL_S}s", "input_series": inputs, "alert_rule_test": cases}],
    }
    path = tmp_path / "healthy.yml"
    path.write_text(yaml.safe_dump(document, width=1000))
    promtool("test", "rules", str(path))
