"""Two releases at once: the one before, out of git, beside today's, as during every rolling update."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import httpx
import msgpack  # type: ignore[import-untyped]

from service.settings import PREFIX, Settings
from tests.system.chaos.faults import Fault
from tests.system.chaos.stage import Stage
from tests.system.e2e.process import ROOT

#: What today's has to live beside: any commit or tag with chaos' worker and front end, wherever it kept them.
BEFORE = os.environ.get("CHAOS_BEFORE", "c8bbcd6")
#: Settings that the fleet has and a process of another release is to have, too.
SHARED = ("engine", "redis_url", "lease_ms", "max_deliveries", "max_queue_items", "shutdown_grace_s", "job_ttl_s")
MAIN = """
import os, sys
from service.settings import Settings
try:
    from tests.system.chaos import processes
except ModuleNotFoundError:
    from tests.chaos import processes
settings = Settings.from_env(os.environ)
processes.front_main(settings, sys.argv[1]) if sys.argv[1:] else processes.worker_main(settings)
"""


def tree(commit: str) -> Path:
    """Return a folder with the files of `commit`. It stays, and with it what numba compiles there in 15 seconds."""
    folder = ROOT / ".cache" / "releases" / commit
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        tar = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            archive.extractall(unfinished, filter="data")
        with contextlib.suppress(OSError):  # another run was quicker
            unfinished.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


class Release:
    """Processes that run from the files of `commit`; `close` ends them."""

    def __init__(self, commit: str) -> None:
        self.root = tree(commit)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, settings: Settings, *arguments: str) -> None:
        """A worker, or with a socket's path a front end."""
        values = {f"{PREFIX}{name.upper()}": str(getattr(settings, name)) for name in SHARED}
        values[f"{PREFIX}WARMUP_SIZES"] = "32x48"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments],
            cwd=self.root,
            env={**inherited, **values, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"},
        )
        self._processes.append(process)

    def stop(self) -> list[int]:
        """SIGTERM to all; their exit statuses."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(30) for process in self._processes]

    def close(self) -> None:
        """Whatever still runs is killed."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


class TwoReleases(Fault):
    """A worker and a front end of the release before, and the announcement of a worker of the release after."""

    name = "two releases at once"
    lasts_s = 3.0
    before: ClassVar[str] = BEFORE

    def __init__(self) -> None:
        super().__init__()
        self._release: Release | None = None
        self._client: httpx.AsyncClient | None = None

    def unfit(self, program: Path) -> str:
        look = subprocess.run(["git", "cat-file", "-e", f"{self.before}^{{commit}}"], cwd=ROOT, capture_output=True)
        return "" if look.returncode == 0 else f"commit {self.before} is not in this checkout (CHAOS_BEFORE names one)"

    async def inject(self, stage: Stage) -> None:
        self._release = await asyncio.to_thread(Release, self.before)
        socket = str(stage.server.folder / "before")
        self._release.start(stage.settings)
        self._release.start(stage.settings, socket)
        self._client = stage.client(socket)
        if not await stage.ready(self._client, 60):
            stage.refused.append("the front end of the release before is not ready beside today's")
        if not await self._works(stage, 60):
            stage.refused.append("the worker of the release before does not work beside today's")
        await self._announce_the_next(stage)
        stage.clients.append(self._client)
        await asyncio.to_thread(stage.fleet.kill_worker)

    async def heal(self, stage: Stage) -> None:
        assert self._release is not None
        assert self._client is not None
        stage.clients.remove(self._client)
        await self._client.aclose()
        statuses = await asyncio.to_thread(self._release.stop)
        self._release.close()
        self.note = f"{self.before}'s worker and front end left with {statuses}"

    async def _works(self, stage: Stage, seconds: float) -> bool:
        """Whether one worker more than the fleet's is alive within so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if await stage.redis.zcard(stage.history.keys.workers) > self.workers:
                return True
            await asyncio.sleep(0.1)
        return False

    async def _announce_the_next(self, stage: Stage) -> None:
        """What a live worker says of itself, with fields that this release does not know, under another name."""
        keys = stage.history.keys
        workers = await stage.redis.zrange(keys.workers, 0, -1, withscores=True)
        for worker, until in workers:
            about = await stage.redis.get(keys.info(worker.decode()))
            if about is None:
                continue
            value = msgpack.unpackb(about)
            value["of_the_next_release"] = value["model"]["of_the_next_release"] = "x"
            await stage.redis.set(keys.info("next-release"), msgpack.packb(value), px=30_000)
            await stage.redis.zadd(keys.workers, {"next-release": until + 4000})
            return
