"""Real front ends and workers over Redis, born of a fork server so that a start costs a second and not torch's five.

Each runs `service.app` from settings to exit status, signals included: what `python -m service` does after its imports.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from service.settings import Settings
from tests.system.e2e import forks
from tests.system.e2e.process import PATIENCE, free_port


@dataclass(slots=True)
class Member:
    """One process; `verb` is serve or work."""

    verb: str
    process: BaseProcess
    http: str

    def ready(self) -> bool:
        """As a load balancer asks."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.http}/healthz/ready", timeout=5).status_code == 200
        return False

    def terminate(self) -> int | None:
        """SIGTERM; the exit status once it has ended."""
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(PATIENCE)
        return self.process.exitcode


class Fleet:
    """Starts members that share a queue."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = forks.context()
        self._born: list[Member] = []

    def start(self, verb: str) -> Member:
        """One more, ready."""
        return self.start_all(verb)[0]

    def start_all(self, *verbs: str) -> list[Member]:
        """One more for each, side by side, ready."""
        members = [self._begin(verb) for verb in verbs]
        end = time.monotonic() + PATIENCE
        for member in members:
            while not member.ready():
                assert member.process.is_alive(), f"{member.verb} ended with {member.process.exitcode}"
                assert time.monotonic() < end, f"{member.verb} is not ready"
                time.sleep(0.05)
        return members

    def _begin(self, verb: str) -> Member:
        port = free_port()
        engine = "redis" if verb == "serve" else "local"
        settings = self._settings.replace(http_port=port, engine=engine)
        process = self._context.Process(target=_live, args=(verb, settings), daemon=True)
        process.start()
        member = Member(verb, process, f"http://127.0.0.1:{port}")
        self._born.append(member)
        return member

    def end(self) -> None:
        """All of them, however they are."""
        for member in self._born:
            member.process.kill()
            member.process.join()


@contextlib.contextmanager
def fleet(redis_url: str, weights: Path, **settings: object) -> Iterator[Fleet]:
    """A fleet while this lasts; a front end is ready only once a worker is there."""
    chosen = Settings(
        redis_url=redis_url, weights=weights, threads=1, grpc_enabled=False, warmup_sizes=((32, 48),), log_level="error"
    )
    made = Fleet(chosen.replace(**settings))
    try:
        yield made
    finally:
        made.end()


def _live(verb: str, settings: Settings) -> None:
    from service import app

    logging.basicConfig(level=logging.ERROR)
    life = app.serve if verb == "serve" else app.work
    sys.exit(asyncio.run(life(settings, announce=lambda line: None)))
