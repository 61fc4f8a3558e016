"""The stock clients of the Open Inference Protocol: fetched once, skipped loudly where they cannot be."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Tools:
    """A Python that has tritonclient, the perf_analyzer binary, and the environment both run in."""

    python: Path
    perf_analyzer: Path
    environment: dict[str, str]

    async def run(self, *command: str | Path, seconds: float = 240) -> str:
        """What it printed; AssertionError with everything if it failed."""
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=self.environment
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode(errors="replace")
        assert process.returncode == 0, f"{command[0]} ended with {process.returncode}:\n{text}"
        return text


@functools.cache
def _fetched() -> Path | str:
    """The folder, or why there is none."""
    lock_file = ROOT / ".cache" / "v2-clients.lock"
    lock_file.parent.mkdir(exist_ok=True)
    try:
        # Of the processes that run tests at once, one fetches and the others wait for it.
        with lock_file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(
                [ROOT / "scripts" / "clients"],
                capture_output=True,
                text=True,
                timeout=900,
                env={**os.environ, "PYTHON": sys.executable},
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return Path(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else done.stderr[-400:]


def tools() -> Tools:
    """Ready to run. Where they cannot be fetched this skips, or with CI set fails."""
    found = _fetched()
    if isinstance(found, str):
        assert not os.environ.get("CI"), f"scripts/clients failed: {found}"
        pytest.skip(f"the V2 clients cannot be fetched: {found}")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(found / "lib"), "OMP_NUM_THREADS": "1"}
    return Tools(found / "venv" / "bin" / "python", found / "perf_analyzer", environment)
