"""Counts what the service has accepted and not yet finished, so that a stop can wait for it.

Accepted is what an edge has let in: a request until the last byte of its answer is out, a stream, a clip. What it asks
of the engine is taken even after the edges are closed; the mark travels with the task that does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_accepted: ContextVar[bool] = ContextVar("accepted work", default=False)


class AcceptedWork:
    """One object for the whole service."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()  #: nothing new is accepted
        self.count = 0
        self._finished = asyncio.Event()
        self._finished.set()

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Count what is done inside, and let it through to the engine; once shut, only what is within accepted work."""
        if self.stopping.is_set() and not self.inside:
            yield
            return
        before = _accepted.get()
        _accepted.set(True)
        self.count += 1
        self._finished.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._finished.set()
            # Not reset(token): a generator may be closed in another context than the one it was begun in.
            _accepted.set(before)

    @property
    def inside(self) -> bool:
        """Tell whether the caller runs within accepted work."""
        return _accepted.get()

    def shut(self) -> None:
        """Accept nothing new."""
        self.stopping.set()

    async def finished(self) -> None:
        """Wait until nothing accepted is under way."""
        await self._finished.wait()
