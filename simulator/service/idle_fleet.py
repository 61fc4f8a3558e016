"""What is asked of a fleet whose faults are over: prompt answers, turns between callers, nothing for who left."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from service.distributed.worker.worker import MOST_READY
from simulator.history import Ended, Guarantee, Verdict
from simulator.service.callers import SIZES, Callers
from simulator.service.fleet import Fleet

#: Seconds within which an idle fleet answers a size that it knows: far below the rest of an idle worker.
PROMPT_S = 0.4
#: How an engine words a refusal by prediction alone.
PREDICTED = re.compile("unmeetable|could no longer be met")
#: Calls of one caller at once; larger bursts cost more time than they show.
LARGEST_BURST = 60
#: Calls whose callers leave at once, how often, and the seconds after which all know it.
ABANDONED, ROUNDS, KNOWN_S = 12, 3, 0.03


@dataclass
class IdleFleet:
    """Asks, and adds what is broken to `verdict`. `together`: items that a worker's device runs at once."""

    fleet: Fleet
    callers: Callers
    verdict: Verdict
    together: int

    async def probe(self) -> None:
        """Ask each front end for each size: an idle fleet refuses nobody."""
        for front in list(self.fleet.fronts):
            if not front.engine.readiness().ready:
                self.verdict.broke(Guarantee.SILENT, f"a front end is not ready: {front.engine.readiness().reason}")
                continue
            # A cold size takes its time; then the answer comes at once.
            for size, deadline_s in (*((size, 5.0) for size in SIZES), *[(SIZES[0], PROMPT_S)] * 3):
                call = await self.callers.call(deadline_s, "prober", size, front)
                if call is not None and call.outcome != "ok" and not _is_predicted(call, deadline_s):
                    text = f"an idle fleet: {call.outcome}, {call.why}, due in {deadline_s:g} s"
                    self.verdict.broke(Guarantee.REFUSED, text)

    async def burst(self) -> None:
        """Have one caller ask for much, and a moment later another for little, who waits for a part of it only."""
        # More than all workers have ready at once, so that some of it waits in the queue when the other comes.
        at_once = len(self.fleet.workers) * self.together
        beside = at_once - self.together  # what other devices run while the last of it runs
        size = at_once * (1 + MOST_READY) + beside + 12
        if size > LARGEST_BURST or not self.fleet.fronts:
            return
        front = self.fleet.fronts[0]
        many = [asyncio.ensure_future(self.callers.call(20.0, "greedy", front=front)) for _ in range(size)]
        await asyncio.sleep(0.01)
        few = await self.callers.call(20.0, "modest", front=front)
        left = sum(not call.done() for call in many)
        outcomes = await asyncio.gather(*many)
        if any(call is None or call.outcome != "ok" for call in (few, *outcomes)):
            self.verdict.broke(Guarantee.REFUSED, "a burst on an idle fleet was not answered")
        elif left <= beside:
            self.verdict.broke(Guarantee.STARVED, f"one call waited for {size - left} of the {size} of another caller")

    async def abandon(self) -> None:
        """Have many callers leave before their turn: the device runs none of them once that is known."""
        if not self.fleet.fronts:
            return
        front, late = self.fleet.fronts[0], []
        for _ in range(ROUNDS):
            tasks = [asyncio.ensure_future(self.callers.call(20.0, front=front)) for _ in range(ABANDONED)]
            await asyncio.sleep(self.callers.rng.uniform(0.001, 0.02))
            for task in tasks:
                task.cancel()
            known = self.fleet.loop.time() + KNOWN_S
            await asyncio.sleep(0.5)
            runs = [run for life in self.fleet.workers for run in life.device.runs]
            late += [name for at, names in runs if at > known for name in names]
        if late:
            self.verdict.broke(Guarantee.ABANDONED, f"calls ran whose callers had left: {', '.join(late)}")


def _is_predicted(call: Ended, deadline_s: float) -> bool:
    """Tell whether a prompt call was refused for what a device took until now; what is due later is tried."""
    return deadline_s == PROMPT_S and PREDICTED.search(call.why) is not None
