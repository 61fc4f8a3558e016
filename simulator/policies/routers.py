"""What stands before a fleet: a Kubernetes Service over pods that predict, or the shared queue in Redis.

The queue follows `service.jobs`: first in, first out for each size, the size whose head is due first; a worker claims
as many as run and as many again. Its Lua cannot run here, so its admission is written down once more.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded, QueueFull, ServiceError
from service.engine.request_queue import Pending
from service.engine.scheduling.batch_scheduler import QueueLimits
from simulator.clock import Clock
from simulator.outcomes import Outcomes
from simulator.worker import Worker, sent_at

#: The pods that take requests now.
Pods = Callable[[], Sequence[Worker]]


class Balanced:
    """A Service: each connection goes to any ready pod (kube-proxy), or to each in turn (gRPC's round robin)."""

    def __init__(self, pods: Pods, outcomes: Outcomes, chance: random.Random, *, in_turn: bool = False) -> None:
        self._pods, self._outcomes, self._chance, self._in_turn = pods, outcomes, chance, in_turn
        self._next = 0

    def offer(self, pending: Pending, now: float) -> None:
        """Hand a request to a pod; count the pod's refusal as the caller's."""
        pods = self._pods()
        self._next += 1
        number = self._next % len(pods) if self._in_turn else int(self._chance.random() * len(pods))
        try:
            pods[number].offer(pending)
        except ServiceError as refused:
            self._outcomes.record_refusal(now, has_advice=refused.retry_after is not None)


@dataclass(frozen=True, slots=True)
class RedisCallCost:
    """Seconds of one call on its way through Redis: both clients' processors, and the server's one thread."""

    clients: float = 0.0
    server: float = 0.0


class SharedQueue:
    """One queue in Redis before all workers. Its server handles one call after the other."""

    def __init__(
        self,
        clock: Clock,
        workers: Pods,
        outcomes: Outcomes,
        limits: QueueLimits,
        each: float,
        call_cost: RedisCallCost,
    ) -> None:
        """Start empty. `each`: predicted seconds of one request, as the front ends reckon from what workers publish."""
        self._clock, self._workers, self._outcomes = clock, workers, outcomes
        self._limits, self._each, self._call_cost = limits, each, call_cost
        self._waiting: dict[Bucket, deque[Pending]] = {}
        self._count = 0
        self._in_flight = 0
        self._idle: dict[Worker, None] = {}  # in the order in which they came to rest
        self._server_free = 0.0
        self.server_busy = 0.0

    def offer(self, pending: Pending, now: float) -> None:
        """Admit a request, by the work of all that is queued or runs, and send it to the queue; or count a refusal."""
        try:
            self._admit(pending, now)
        except ServiceError as refused:
            self._outcomes.record_refusal(now, has_advice=refused.retry_after is not None)
            return
        self._in_flight += 1
        # The server's part of the whole call, answer included, is taken here at once.
        self._server_free = max(now, self._server_free) + self._call_cost.server
        self.server_busy += self._call_cost.server
        self._clock.at(self._server_free + self._call_cost.clients, self._enqueue, pending)

    def work(self) -> float:
        """Return the predicted seconds of all that is queued or runs: `dmvfn_redis_work_seconds`."""
        return self._in_flight * self._each

    def release(self, worker: Worker) -> None:
        """Let `worker` claim more: one of its requests is answered."""
        self._in_flight -= 1
        self._clock.at(self._clock.now, self._claim, worker)

    def add_worker(self, worker: Worker) -> None:
        """Let a worker that is ready claim its first requests."""
        self._claim(worker)

    def _admit(self, pending: Pending, now: float) -> None:
        work = self.work()
        if self._in_flight >= self._limits.max_items:
            raise QueueFull("too many requests are waiting", retry_after=work / max(1, len(self._workers())))
        finish = (work + self._each) / max(1, len(self._workers()))
        if now + finish > pending.entry.deadline:
            late = now + finish - pending.entry.deadline
            raise DeadlineExceeded("it would not be in time", reason="unmeetable", retry_after=late)

    def _enqueue(self, pending: Pending) -> None:
        self._waiting.setdefault(pending.entry.bucket, deque()).append(pending)
        self._count += 1
        if self._idle:
            worker = next(iter(self._idle))
            del self._idle[worker]
            self._claim(worker)

    def _claim(self, worker: Worker) -> None:
        while (room := 2 * self._limits.max_batch - worker.in_flight) > 0:
            if not self._count:
                if worker in self._workers():
                    self._idle[worker] = None
                return
            bucket = min(self._waiting, key=lambda bucket: self._waiting[bucket][0].entry.deadline)
            line = self._waiting[bucket]
            for _ in range(min(room, len(line))):
                self._hand(line.popleft(), worker)
            if not line:
                del self._waiting[bucket]

    def _hand(self, pending: Pending, worker: Worker) -> None:
        self._count -= 1
        try:
            if self._clock.now >= pending.entry.deadline:
                raise DeadlineExceeded("the deadline passed in the queue")
            worker.offer(pending)
        except ServiceError:
            self._in_flight -= 1
            self._outcomes.record_expiry(sent_at(pending), ran=False)
