"""A whole small deployment as processes: two front ends, a worker, Redis, and Prometheus with our configuration."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.system.e2e.process import PATIENCE, Service, free_port, service, until_ready
from tests.tools import require
from tests.unit.deploy.manifests import DEPLOY
from tests.unit.distributed.servers import Server, binary

#: Between two scrapes and two evaluations: so that seconds of traffic fill the graphs.
INTERVAL = "500ms"


@dataclass(frozen=True, slots=True)
class Live:
    """What runs: a server that predicts, one that hands on through Redis, its worker; and Prometheus' address."""

    alone: Service
    front: Service
    worker: Service
    prometheus: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """An instant query's samples; AssertionError with Prometheus' words when it refuses the expression."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expr}, timeout=60).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def query_range(self, expr: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """A range query's series."""
        wanted: dict[str, str | float] = {"query": expr, "start": begin, "end": end, "step": step}
        answer = httpx.get(f"{self.prometheus}/api/v1/query_range", params=wanted, timeout=60).json()
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextlib.contextmanager
def live() -> Iterator[Live]:
    """Everything, ready; ended in the end."""
    with contextlib.ExitStack() as stack:
        redis = Server(binary())
        redis.start()
        stack.callback(redis.remove)
        shared = {"REDIS_URL": redis.url}
        # A queue so short that it can be filled, and a peak, so that every graph has something to show.
        alone = stack.enter_context(
            service(
                wait=False,
                forked=True,
                MAX_QUEUE_ITEMS="4",
                MAX_BATCH="2",
                DEVICE_PEAK_FLOPS="1e12",
                LOG_LEVEL="warning",
            )
        )
        front = stack.enter_context(service("serve", "--engine", "redis", wait=False, forked=True, **shared))
        worker = stack.enter_context(service("work", wait=False, forked=True, DEVICE_PEAK_FLOPS="1e12", **shared))
        for process in (alone, worker, front):
            until_ready(process)
        yield Live(
            alone, front, worker, stack.enter_context(prometheus({"server": (alone, front), "worker": (worker,)}))
        )


@contextlib.contextmanager
def prometheus(targets: dict[str, tuple[Service, ...]]) -> Iterator[str]:
    """The real one with our own configuration and rules; only where it finds its targets, and how often, differs."""
    program = require("prometheus")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _configure(folder, targets)
        address = f"127.0.0.1:{free_port()}"
        command = [
            program,
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={address}",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            end = time.monotonic() + PATIENCE
            while True:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "Prometheus is not ready"
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://{address}/-/ready", timeout=5).status_code == 200:
                        break
                time.sleep(0.05)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(60)


def _configure(folder: Path, targets: dict[str, tuple[Service, ...]]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        role = job["job_name"].removeprefix("dmvfn-")
        job["static_configs"] = [{"targets": [process.http.removeprefix("http://") for process in targets[role]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rules").mkdir()
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        (folder / "rules" / path.name).write_text(re.sub(r"interval: \w+", f"interval: {INTERVAL}", path.read_text()))
