"""Counts what the service has accepted and not yet finished, so that a stop can wait for it.

Accepted is what an edge has let in: a request until the last byte of its answer is out, a stream, a clip. What it asks
of the engine is taken even after the edges are closed; the mark travels with the task that does the work.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType

_accepted: ContextVar[bool] = ContextVar("accepted work", default=False)


class AcceptedWork:
    """Counts the work that the whole service has accepted, and refuses more once it stops."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()  #: nothing new is accepted
        self.is_cut = False  #: the grace is over: what is unfinished is ended by us
        self.count = 0
        self._finished = asyncio.Event()
        self._finished.set()

    def accepted(self) -> AbstractContextManager[None]:
        """Count what is done inside, and let it through to the engine; once new is refused, only accepted work's."""
        return _Acceptance(self)

    @property
    def inside(self) -> bool:
        """Tell whether the caller runs within accepted work."""
        return _accepted.get()

    def refuse_new(self) -> None:
        """Accept nothing new from now on."""
        self.stopping.set()

    def cut(self) -> None:
        """Note that what is not finished ends now, unfinished."""
        self.is_cut = True

    async def finished(self) -> None:
        """Wait until nothing accepted is under way."""
        await self._finished.wait()

    def begin(self) -> None:
        """Count one more piece of work under way, until `end`."""
        if not self.count:
            self._finished.clear()
        self.count += 1

    def end(self) -> None:
        """Count one piece of work as over."""
        self.count -= 1
        if not self.count:
            self._finished.set()


class _Acceptance:
    """A block of accepted work. No generator: every request passes two, and a generator takes three times the calls."""

    __slots__ = ("_before", "_is_counted", "_work")

    def __init__(self, work: AcceptedWork) -> None:
        self._work = work

    def __enter__(self) -> None:
        self._before = _accepted.get()
        self._is_counted = self._before or not self._work.stopping.is_set()
        if self._is_counted:
            _accepted.set(True)
            self._work.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_counted:
            self._work.end()
            # Not reset(token): a generator may be closed in another context than the one it was begun in.
            _accepted.set(self._before)
