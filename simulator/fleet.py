"""Joins clock, router and workers, and sends them requests: one run of a simulation."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence

from service.engine.scheduling.batch_scheduler import QueueLimits
from service.engine.scheduling.cost_model import CostModel
from service.engine.scheduling.entry import Entry
from simulator.clock import Clock
from simulator.device import Device
from simulator.outcomes import Outcomes
from simulator.policies.queues import FifoPrefix, QueuePolicy, Windowed
from simulator.policies.routers import Balanced, RedisCallCost, SharedQueue
from simulator.traffic import Kind
from simulator.worker import SimulatedRequest, Worker

#: Clients that take turns in the service's queues.
CLIENTS = 5
#: Limits, cost model, and rows that the device runs together.
PolicyFactory = Callable[[QueueLimits, CostModel, int], QueuePolicy]


def greedy(limits: QueueLimits, cost: CostModel, rows: int) -> QueuePolicy:
    """Build the service's own queue."""
    return Windowed.of(limits, cost, rows)


def with_window(seconds: float) -> PolicyFactory:
    """Return a maker of the service's queue behind a fixed window."""
    return lambda limits, cost, rows: Windowed.of(limits, cost, rows, seconds)


def fifo_prefix(seconds: float = 0.0) -> PolicyFactory:
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
        policy: PolicyFactory = greedy,
        limits: QueueLimits | None = None,
        seed: int = 0,
        call_cost: RedisCallCost | None = None,
        each: float = 0.0,
        queue_items: int = QueueLimits().max_items,
        in_turn: bool = False,
    ) -> None:
        """Join workers to a Kubernetes Service; with a `call_cost`, to the shared queue (`each` s a request)."""
        self.clock, self.outcomes, self.chance = Clock(), Outcomes(), random.Random(seed)
        self.ready: list[Worker] = []
        self.former_workers: list[Worker] = []
        self.kinds, self.cpu_seconds = kinds, 0.0
        self._device, self._policy, self._limits = device, policy, limits or QueueLimits()
        sizes = [(kind.request.current.height, kind.request.current.width) for kind in kinds]
        self._cost = device.warm_cost_model(sorted(set(sizes)))
        self.queue: SharedQueue | None = None
        self.router: SharedQueue | Balanced = Balanced(lambda: self.ready, self.outcomes, self.chance, in_turn=in_turn)
        if call_cost is not None:
            bounds = QueueLimits(max_batch=self._limits.max_batch, max_items=queue_items)
            self.queue = SharedQueue(self.clock, lambda: self.ready, self.outcomes, bounds, each, call_cost)
            self.router = self.queue
        for _ in range(workers):
            self.add()

    def add(self) -> None:
        """Add a worker, warmed up."""
        cost = copy.deepcopy(self._cost)
        chance = random.Random(self.chance.random())
        on_outcome = self.queue.release if self.queue else lambda worker: None
        policy = self._policy(self._limits, cost, self._device.rows)
        worker = Worker(self.clock, policy, self._device, cost, self.outcomes, chance, on_outcome)
        self.ready.append(worker)
        if self.queue:
            self.queue.add_worker(worker)

    def remove(self) -> None:
        """Remove the newest worker, which finishes what it has but takes nothing more; the last one stays."""
        if len(self.ready) > 1:
            self.former_workers.append(self.ready.pop())

    def run(self, arrivals: Iterator[float]) -> Outcomes:
        """Run all arrivals, kinds in turn, until each has its outcome. `cpu_seconds` are its own afterwards."""
        began = time.process_time()
        self.clock.run(arrivals, self._arrive)
        self.cpu_seconds = time.process_time() - began
        return self.outcomes

    def busy_share(self) -> float:
        """Return the busy share of the ready workers' time until now."""
        busy = sum(worker.busy_seconds for worker in (*self.ready, *self.former_workers))
        return busy / (self.clock.now * len(self.ready))

    def _arrive(self) -> None:
        now, number = self.clock.now, self.outcomes.sent
        kind = self.kinds[number % len(self.kinds)]
        self.outcomes.record_arrival(kind.bucket)
        entry = Entry(
            id=str(number),
            bucket=kind.bucket,
            deadline=now + kind.budget,
            route_options=(),
            client=str(number % CLIENTS),
            nbytes=kind.request.nbytes,
        )
        self.router.offer(SimulatedRequest(kind.request, entry, _tell_nobody, sent_at=now), now)


def _tell_nobody(outcome: object) -> None:
    """Deliver a simulated request's outcome: there is no caller; `Outcomes` counts it."""
