"""Joins clock, router and workers, and sends them requests: one run of a simulation."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence

from service.engine.scheduling.batch_queue import QueueLimits
from service.engine.scheduling.cost_model import CostModel
from service.engine.scheduling.entry import Entry
from simulator.clock import Clock
from simulator.device import Device
from simulator.outcomes import Outcomes
from simulator.policies.queues import Desk, FifoPrefix, Windowed
from simulator.policies.routers import Balanced, SharedQueue, Way
from simulator.traffic import Kind
from simulator.worker import Asked, Worker

#: Clients that take turns in the service's queues.
CLIENTS = 5
#: Limits, cost model, and rows that the device runs together.
MakeDesk = Callable[[QueueLimits, CostModel, int], Desk]


def greedy(limits: QueueLimits, cost: CostModel, rows: int) -> Desk:
    """Build the service's own queue."""
    return Windowed.of(limits, cost, rows)


def windowed(seconds: float) -> MakeDesk:
    """Return a maker of the service's queue behind a fixed window."""
    return lambda limits, cost, rows: Windowed.of(limits, cost, rows, seconds)


def fifo_prefix(seconds: float = 0.0) -> MakeDesk:
    """Return a maker of first-in-first-out queues whose batches end where the size changes."""
    return lambda limits, cost, rows: FifoPrefix(limits, cost, seconds)


class Fleet:
    """Some workers of one kind behind a router. One seed, one course of events."""

    def __init__(
        self,
        device: Device,
        kinds: Sequence[Kind],
        workers: int = 1,
        *,
        desk: MakeDesk = greedy,
        limits: QueueLimits | None = None,
        seed: int = 0,
        way: Way | None = None,
        each: float = 0.0,
        queue_items: int = QueueLimits().max_items,
        in_turn: bool = False,
    ) -> None:
        """Join workers to a Kubernetes Service; with a `way`, to the shared queue, which reckons `each` s a request."""
        self.clock, self.outcomes, self.chance = Clock(), Outcomes(), random.Random(seed)
        self.ready: list[Worker] = []
        self.left: list[Worker] = []
        self.kinds, self.took = kinds, 0.0
        self._device, self._desk, self._limits = device, desk, limits or QueueLimits()
        sizes = [(kind.request.current.height, kind.request.current.width) for kind in kinds]
        self._cost = device.warmed(sorted(set(sizes)))
        self.queue: SharedQueue | None = None
        self.router: SharedQueue | Balanced = Balanced(lambda: self.ready, self.outcomes, self.chance, in_turn=in_turn)
        if way is not None:
            bounds = QueueLimits(max_batch=self._limits.max_batch, max_items=queue_items)
            self.queue = SharedQueue(self.clock, lambda: self.ready, self.outcomes, bounds, each, way)
            self.router = self.queue
        self._loop = asyncio.new_event_loop()  # never run: futures only say whether a request is settled
        for _ in range(workers):
            self.add()

    def add(self) -> None:
        """Add a worker, warmed up."""
        cost = copy.deepcopy(self._cost)
        chance = random.Random(self.chance.random())
        on_settled = self.queue.settled if self.queue else lambda worker: None
        desk = self._desk(self._limits, cost, self._device.rows)
        worker = Worker(self.clock, desk, self._device, cost, self.outcomes, chance, on_settled)
        self.ready.append(worker)
        if self.queue:
            self.queue.joined(worker)

    def remove(self) -> None:
        """Remove the newest worker, which finishes what it has but takes nothing more; the last one stays."""
        if len(self.ready) > 1:
            self.left.append(self.ready.pop())

    def run(self, arrivals: Iterator[float]) -> Outcomes:
        """Run all arrivals, kinds in turn, until each has its outcome. `took` is then the CPU seconds it needed."""
        began = time.process_time()
        try:
            self.clock.run(arrivals, self._arrive)
        finally:
            self._loop.close()
        self.took = time.process_time() - began
        return self.outcomes

    def busy_share(self) -> float:
        """Return the busy share of the ready workers' time until now."""
        busy = sum(worker.busy_seconds for worker in (*self.ready, *self.left))
        return busy / (self.clock.now * len(self.ready))

    def _arrive(self) -> None:
        now, number = self.clock.now, self.outcomes.sent
        kind = self.kinds[number % len(self.kinds)]
        self.outcomes.asked(kind.bucket)
        entry = Entry(
            id=str(number),
            bucket=kind.bucket,
            deadline=now + kind.budget,
            rungs=(),
            client=str(number % CLIENTS),
            nbytes=kind.request.nbytes,
        )
        self.router.offer(Asked(kind.request, entry, self._loop.create_future(), came=now), now)
