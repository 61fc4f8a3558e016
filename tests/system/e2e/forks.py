"""Processes born of a fork server that has loaded torch and the service: a start costs its warm-up, not its imports."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

#: Read once by the fork server, before the first fork of a test run.
PRELOADED = ("service.app", "service.engine.predictor", "uvloop")


def context() -> ForkServerContext:
    """Return the run's fork server; whoever asks first starts it with `PRELOADED`."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(PRELOADED))
    return server


class ForkedService:
    """`python -m service ARGUMENTS` without its imports; with environment, folder, output and signals of its own."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> None:
        self._process = context().Process(target=_live, args=(list(arguments), dict(env), folder, log))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended. Raises TimeoutExpired after `timeout` seconds."""
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("python -m service", timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _live(arguments: list[str], env: dict[str, str], folder: Path, log: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    with log.open("ab", buffering=0) as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
    from service.__main__ import main

    sys.exit(main(arguments))
