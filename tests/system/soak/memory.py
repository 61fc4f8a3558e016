"""Watches the resident memory of a process while something else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.2  #: seconds


def resident(pid: int) -> float:
    """MiB of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(slots=True)
class Samples:
    """MiB, one sample after the other."""

    values: list[float] = field(default_factory=list)

    @property
    def most(self) -> float:
        """The peak."""
        return max(self.values)

    def growth(self) -> float:
        """How much higher the second half's peak is than the first half's: what goes on for ever shows here."""
        middle = max(1, len(self.values) // 2)
        return max(self.values[middle:], default=0.0) - max(self.values[:middle])


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Samples]:
    """Samples while this lasts."""
    samples = Samples([resident(pid)])

    async def sample() -> None:
        while True:
            await asyncio.sleep(EVERY)
            samples.values.append(resident(pid))

    task = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
