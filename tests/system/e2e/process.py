"""Starts the service as a user does: a real process, real ports, a tiny network so that it is quick."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch

from model import checkpoint
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from tests.system.e2e.forks import ForkedService

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples"
#: How long a process may take to start on a busy machine, seconds.
PATIENCE = 90.0


def tiny_weights(folder: Path) -> Path:
    """A checkpoint of the tiny network, always the same."""
    torch.manual_seed(11)
    path = folder / "tiny.safetensors"
    checkpoint.save(DMVFN(ModelConfig.tiny()), path, checkpoint.Metadata(version="tiny", config=ModelConfig.tiny()))
    return path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """What the process sees: tiny weights, one thread, free ports, and `settings` (without the prefix)."""
    values = {
        "WEIGHTS": str(tiny_weights(folder)),
        "THREADS": "1",
        "HTTP_PORT": str(free_port()),
        "GRPC_PORT": str(free_port()),
        "WARMUP_SIZES": "32x48",
        **settings,
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("DMVFN_")}
    return {**inherited, **{f"DMVFN_{name}": value for name, value in values.items()}, "PYTHONUNBUFFERED": "1"}


@dataclass(slots=True)
class Service:
    """A running process and where it listens."""

    process: subprocess.Popen[bytes] | ForkedService
    http: str
    grpc: str
    log: Path

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def exit_status(self, seconds: float = PATIENCE) -> int:
        """Wait for its end."""
        return self.process.wait(seconds)

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def output(self) -> str:
        """Everything it printed and logged."""
        return self.log.read_text()


@contextlib.contextmanager
def service(
    verb: str = "serve", *arguments: str, wait: bool = True, forked: bool = False, **settings: str
) -> Iterator[Service]:
    """`python -m service VERB` while this lasts, ready unless `wait` is false; killed at the end if it still runs.

    `forked` saves the imports (2.7 s of a processor): for tests that are not about a new interpreter or its memory.
    """
    start = _forked if forked else _started
    with _running(lambda env, log: start(env, log, verb, *arguments), settings, wait=wait) as found:
        yield found


@contextlib.contextmanager
def service_of(root: Path, verb: str, **settings: str) -> Iterator[Service]:
    """`python -m service VERB` of the files in `root`, another release's perhaps; not waited for."""

    def start(env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        return _started({**env, "PYTHONPATH": str(root)}, log, verb, root=root)

    with _running(start, settings, wait=False) as found:
        yield found


@contextlib.contextmanager
def _running(
    start: Callable[[dict[str, str], Path], subprocess.Popen[bytes] | ForkedService],
    settings: dict[str, str],
    *,
    wait: bool,
) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(folder, **settings)
        log = folder / "log"
        process = start(env, log)
        found = Service(
            process, f"http://127.0.0.1:{env['DMVFN_HTTP_PORT']}", f"127.0.0.1:{env['DMVFN_GRPC_PORT']}", log
        )
        try:
            if wait:
                until_ready(found)
            yield found
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _started(env: dict[str, str], log: Path, *arguments: str, root: Path = ROOT) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        command = [sys.executable, "-m", "service", *arguments]
        return subprocess.Popen(command, cwd=root, env=env, stdout=file, stderr=file)


def _forked(env: dict[str, str], log: Path, *arguments: str) -> ForkedService:
    log.touch()
    return ForkedService(arguments, env, ROOT, log)


def until_memory_is_moved(found: Service, seconds: float = PATIENCE) -> None:
    """Returns when the service's log, at level info, says that it has moved its memory into large pages, or cannot."""
    end = time.monotonic() + seconds
    while "of memory are in large pages" not in found.output():
        assert found.process.poll() is None, found.output()
        assert time.monotonic() < end, f"its memory is not moved within {seconds:.0f} s:\n{found.output()}"
        time.sleep(0.1)


def until_ready(found: Service, seconds: float = PATIENCE) -> None:
    """Returns when readiness answers 200; AssertionError with the log when the process ends or takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert found.process.poll() is None, found.output()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{found.http}/healthz/ready", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready within {seconds:.0f} s:\n{found.output()}")
