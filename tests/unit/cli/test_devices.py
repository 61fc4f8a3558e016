"""One worker for each device: each sees its own alone, is started again when it ends, and stops when all are told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.cli.devices import DeviceProcess, DeviceSupervisor, plan
from service.settings import Settings, SettingsError
from tests.system.e2e.process import free_port, service
from tests.unit.distributed.servers import running

#: A worker of a few milliseconds: notes its device and process, waits for SIGTERM and ends with the status in STATUS.
WORKER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(int(os.environ.get("STATUS", "0"))))
with open(os.environ["NOTES"] + "/" + os.environ["DMVFN_DEVICE"] + "." + str(os.getpid()), "w"):
    pass
if "ENDS" in os.environ:
    sys.exit(int(os.environ["ENDS"]))
signal.pause()
"""


def planned(text: str, visible: str = "", gpus: int = 2, cores: int = 8, **settings: int) -> list[DeviceProcess]:
    return plan(text, Settings(**settings), visible, lambda: gpus, cores)  # type: ignore[arg-type]


def test_each_gpu_is_seen_alone_and_has_ports_of_its_own() -> None:
    assert planned("all", http_port=9000, health_port=9100, metrics_port=9200) == [
        DeviceProcess(
            str(index),
            9200 + index,
            {
                "DMVFN_HTTP_PORT": str(9000 + index),
                "DMVFN_HEALTH_PORT": str(9100 + index),
                "DMVFN_METRICS_PORT": str(9200 + index),
                "DMVFN_DEVICE": "cuda",
                "CUDA_VISIBLE_DEVICES": str(index),
            },
        )
        for index in range(2)
    ]


def test_ports_that_two_workers_would_share_are_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"DMVFN_HTTP_PORT \(9000\) on, and as many from DMVFN_HEALTH_PORT \(9001\)"
    ):
        planned("0,1", http_port=9000, health_port=9001)
    ports = [process.environment for process in planned("0,1", http_port=9000, health_port=9002, metrics_port=9002)]
    assert [environment["DMVFN_METRICS_PORT"] for environment in ports] == ["9002", "9003"]
    assert planned("0", http_port=9000, health_port=9001)


def test_indices_follow_what_the_process_may_see_and_slices_go_by_their_uuid() -> None:
    processes = planned("1,MIG-ab12", visible="GPU-one,GPU-two")
    assert [process.environment["CUDA_VISIBLE_DEVICES"] for process in processes] == ["GPU-two", "MIG-ab12"]


def test_workers_on_the_cpu_share_its_cores() -> None:
    assert [process.environment["DMVFN_THREADS"] for process in planned("cpu,cpu")] == ["4", "4"]
    assert planned("cpu,0", threads=3)[0].environment["DMVFN_THREADS"] == "3"
    assert "DMVFN_THREADS" not in planned("cpu,0")[1].environment


@pytest.mark.parametrize(
    ("text", "why"),
    [("gpu", "must be all"), ("0,0", "twice"), ("2", "CUDA_VISIBLE_DEVICES names 2"), ("", "empty"), ("all", "no GPU")],
)
def test_what_is_no_device_is_refused(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        planned(text, visible="4,5", gpus=0)


class Supervised:
    """A supervisor of stand-in workers, and the notes that they leave."""

    def __init__(self, notes: Path, count: int = 2, first_pause_s: float = 0.001, **environment: str) -> None:
        self.notes = notes
        self.supervisor = DeviceSupervisor([sys.executable, "-S", "-c", WORKER], 5.0, first_pause_s)
        variables = {"NOTES": str(notes), **environment}
        self.processes = [DeviceProcess(f"d{n}", 0, {"DMVFN_DEVICE": f"d{n}", **variables}) for n in range(count)]
        self.task = asyncio.create_task(self.supervisor.run(self.processes))

    def pids(self, device: str) -> list[int]:
        return [int(path.suffix[1:]) for path in self.notes.glob(f"{device}.*")]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                assert not self.task.done()
                await asyncio.sleep(0.005)


async def test_what_ends_is_started_again_and_sigterm_reaches_all(tmp_path: Path) -> None:
    workers = Supervised(tmp_path, STATUS="4")
    await workers.until(lambda: all(len(workers.pids(device)) == 1 for device in ("d0", "d1")))
    os.kill(workers.pids("d0")[0], signal.SIGKILL)
    await workers.until(lambda: len(workers.pids("d0")) == 2)
    assert len(workers.pids("d1")) == 1
    os.kill(os.getpid(), signal.SIGTERM)
    assert await workers.task == 4


async def test_wrong_settings_end_all(tmp_path: Path) -> None:
    assert await Supervised(tmp_path, ENDS="2").task == 2


async def test_a_worker_that_keeps_ending_is_started_ever_more_slowly(tmp_path: Path) -> None:
    workers = Supervised(tmp_path, count=1, first_pause_s=0.02, ENDS="1")
    await workers.until(lambda: len(workers.pids("d0")) == 3)
    workers.supervisor.signalled(signal.SIGTERM)
    assert await workers.task in (0, 1)


def test_real_workers_on_two_devices_answer_on_ports_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    with (
        running() as redis,
        service("work", "--devices", "cpu,cpu", wait=False, REDIS_URL=redis.url, HTTP_PORT=str(port)) as process,
    ):
        for number in range(2):
            process.http = f"http://127.0.0.1:{port + number}"
            _until_ready(process.http)
            metrics = httpx.get(f"{process.http}/metrics").text
            assert 'dmvfn_model_info{device="cpu"' in metrics
        process.terminate()
        assert process.exit_status() == 0, process.output()


def _until_ready(address: str) -> None:
    transport = httpx.HTTPTransport(retries=0)
    with httpx.Client(transport=transport, base_url=address) as http:
        for _ in range(1200):
            try:
                if http.get("/healthz/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            signal.sigtimedwait([], 0.05)
    raise AssertionError("not ready")
