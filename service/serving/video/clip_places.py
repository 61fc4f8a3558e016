"""Who may have a clip made now: few at once, and no caller all of them.

Callers who wait for their clip and jobs have places of their own, so that neither kind shuts out the other. A caller
without a place is refused; a job waits in a line in which callers take turns.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.core.errors import ClientLimit, QueueFull

#: Clips made at once while their callers wait; each holds a decoder, an encoder and a few frames.
CALLS_AT_ONCE = 3
#: Of one caller: so that another one always finds a place.
CALLS_OF_ONE = 2
#: Clips made at once that nobody waits for.
JOBS_AT_ONCE = 2
JOBS_OF_ONE = 1
#: Jobs in the line, of all callers and of one.
WAITING = 16
WAITING_OF_ONE = 4
#: Seconds after which a refused caller may ask again: a short clip's time.
RETRY_S = 5.0


@dataclass(eq=False)
class PlaceTicket:
    """A job's place in the line, and then among those that are made; `turn` is done in between."""

    caller: str
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    left: bool = False


class ClipPlaces:
    """The places of one process. Callers are names: an API key's, or an address."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._jobs: Counter[str] = Counter()
        self._line: list[PlaceTicket] = []
        self._served: dict[str, int] = {}  #: caller -> number of its last start; only those with a job
        self._starts = 0

    @contextmanager
    def call(self, caller: str) -> Iterator[None]:
        """Hold a place for a caller who waits. Raises ClientLimit if it has its share, QueueFull if there is none."""
        if self._calls[caller] >= CALLS_OF_ONE:
            raise ClientLimit(f"you have {CALLS_OF_ONE} videos being made, as many as one may", retry_after=RETRY_S)
        if self._calls.total() >= CALLS_AT_ONCE:
            raise QueueFull("as many videos are being made as may be", retry_after=RETRY_S)
        self._calls[caller] += 1
        try:
            yield
        finally:
            _leave(self._calls, caller)

    def check_line(self, caller: str) -> None:
        """Raise ClientLimit or QueueFull where one more job of this caller may not even wait."""
        own = sum(waiting.caller == caller for waiting in self._line)
        if own >= WAITING_OF_ONE:
            raise ClientLimit(f"{own} of your videos wait to be made, as many as may", retry_after=RETRY_S)
        if len(self._line) >= WAITING:
            raise QueueFull("as many videos wait to be made as may", retry_after=RETRY_S)

    def enter(self, caller: str) -> PlaceTicket:
        """Join the line; `turn` may be done at once. To be left with `leave`, whatever becomes of the job."""
        ticket = PlaceTicket(caller)
        self._line.append(ticket)
        self._start()
        return ticket

    def leave(self, ticket: PlaceTicket) -> None:
        """Give up the place, or the wait for one; again does nothing."""
        if ticket in self._line:
            self._line.remove(ticket)
        elif not ticket.left:
            _leave(self._jobs, ticket.caller)
            self._start()
        ticket.left = True

    def _start(self) -> None:
        """Give free places to jobs in the line: of each caller the oldest, the caller longest unserved first."""
        present = {waiting.caller for waiting in self._line} | self._jobs.keys()
        self._served = {caller: at for caller, at in self._served.items() if caller in present}
        while self._jobs.total() < JOBS_AT_ONCE:
            able = [waiting for waiting in self._line if self._jobs[waiting.caller] < JOBS_OF_ONE]
            if not able:
                return
            # min() keeps the first of equals: the line's own order.
            following = min(able, key=lambda waiting: self._served.get(waiting.caller, 0))
            self._line.remove(following)
            self._starts += 1
            self._served[following.caller] = self._starts
            self._jobs[following.caller] += 1
            following.turn.set()


def _leave(places: Counter[str], caller: str) -> None:
    places[caller] -= 1
    if not places[caller]:
        del places[caller]
