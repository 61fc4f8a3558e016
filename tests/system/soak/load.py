"""Load in two shapes: callers that each wait for their answer, and arrivals that wait for nobody; both counted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.system.soak.wire import Connections, Reply


@dataclass(slots=True)
class Tally:
    """What became of the requests of one phase. Times are the caller's, seconds."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  #: of refusals
    answered_after: list[float] = field(default_factory=list)  #: of the 200s
    without_wait: int = 0  #: refusals that do not say how long to wait
    shortened: int = 0
    lag: float = 0.0  #: how far the arrivals fell behind their plan at worst: a generator that is too slow
    seconds: float = 0.0  #: from the first arrival to the last

    @property
    def answered(self) -> int:
        """Predictions received."""
        return self.statuses[200]

    def count(self, reply: Reply) -> None:
        """One more."""
        self.statuses[reply.status] += 1
        if reply.status == 200:
            self.answered_after.append(reply.seconds)
            self.shortened += "x-dmvfn-shortened" in reply.headers
        elif reply.status in (429, 503, 504):
            self.reasons[reply.body.partition(b'"reason": "')[2].partition(b'"')[0].decode()] += 1
            self.without_wait += reply.wait_ms is None


async def waiting(connections: Connections, requests: Sequence[bytes], callers: int, seconds: float) -> Tally:
    """Each of `callers` asks again as soon as it is answered: what the service can do, measured."""
    tally, loop = Tally(), asyncio.get_running_loop()
    began = loop.time()

    async def caller() -> None:
        while loop.time() < began + seconds:
            tally.asked += 1
            tally.count(await connections.ask(requests[tally.asked % len(requests)]))

    await asyncio.gather(*(caller() for _ in range(callers)))
    tally.seconds = loop.time() - began
    return tally


async def arriving(
    connections: Connections, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 1
) -> Tally:
    """`rate` requests a second at random moments, whatever becomes of them; returns when the last has its reply."""
    tally, loop, chance = Tally(), asyncio.get_running_loop(), random.Random(seed)
    open_ = set[asyncio.Task[None]]()

    async def one(request: bytes) -> None:
        tally.count(await connections.ask(request))

    began = due = loop.time()
    while due < began + seconds:
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        tally.lag = max(tally.lag, loop.time() - due)
        task = asyncio.create_task(one(requests[tally.asked % len(requests)]))
        open_.add(task)
        task.add_done_callback(open_.discard)
        tally.asked += 1
        due += chance.expovariate(rate)
    tally.seconds = loop.time() - began
    await asyncio.gather(*open_)
    return tally
