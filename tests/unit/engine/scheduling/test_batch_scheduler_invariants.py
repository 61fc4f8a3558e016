"""Whatever happens in whatever order, the queue loses nobody, runs nobody twice, and keeps its bounds."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.core.bucket import Bucket
from service.core.errors import ServiceError
from service.core.types import Priority
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.request_state import WAITING, RequestState

LIMITS = QueueLimits(max_batch=3, max_batch_pixels=3 * 256 * 448, max_items=12, max_bytes=500, client_items=6)
SIZES = (Bucket(256, 448, 1.0), Bucket(256, 448, 0.5), Bucket(512, 512, 1.0))
costs = st.lists(st.floats(0.001, 2.0), min_size=1, max_size=4).map(lambda values: tuple(sorted(values, reverse=True)))


class Machine(RuleBasedStateMachine):
    """Arrivals, routings, takes, withdrawals and answers at times that only grow."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = BatchScheduler(LIMITS)
        self.now = 0.0
        self.waiting: dict[str, Entry] = {}
        self.routing: list[Entry] = []
        self.running: list[tuple[Entry, ...]] = []
        self.ended: set[str] = set()
        self.count = 0

    @rule(
        bucket=st.sampled_from(SIZES),
        budget=st.floats(-0.5, 20),
        costs=costs,
        client=st.sampled_from("abc"),
        priority=st.sampled_from(Priority),
        nbytes=st.integers(0, 120),
        steps=st.integers(1, 3),
        routed=st.booleans(),
    )
    def put(
        self,
        bucket: Bucket,
        budget: float,
        costs: tuple[float, ...],
        client: str,
        priority: Priority,
        nbytes: int,
        steps: int,
        routed: bool,
    ) -> None:
        rungs = tuple(RouteOption(cost) for cost in costs)
        self.count += 1
        request = Entry(
            str(self.count), bucket, self.now + budget, rungs, not routed, client, priority, nbytes=nbytes, steps=steps
        )
        before = (len(self.queue), self.queue.nbytes)
        refused: ServiceError | None = None
        try:
            self.queue.enqueue(request, self.now)
        except ServiceError as error:
            refused = error
        if refused is None:
            assert request.deadline > self.now
            self.waiting[request.id] = request
            return
        assert request.state is RequestState.REFUSED
        assert refused.code in ("queue_full", "client_limit", "deadline_exceeded")
        assert refused.retry_after is None or refused.retry_after > 0
        assert (len(self.queue), self.queue.nbytes) == before

    @rule()
    def route(self) -> None:
        unrouted = self.queue.next_to_route(self.now)
        assert len({entry.bucket for entry in unrouted}) <= 1
        assert all(entry.id in self.waiting and entry.state is RequestState.ROUTING for entry in unrouted)
        assert len(unrouted) <= LIMITS.max_batch
        self.routing += unrouted

    @precondition(lambda self: self.routing)
    @rule(costs=costs)
    def price(self, costs: tuple[float, ...]) -> None:
        self.queue.price(self.routing.pop(0), tuple(RouteOption(cost) for cost in costs))

    @rule(seconds=st.floats(0, 3))
    def later(self, seconds: float) -> None:
        self.now += seconds

    @rule(overhead=st.floats(0, 0.5), margin=st.floats(0, 1))
    def learn(self, overhead: float, margin: float) -> None:
        self.queue.overhead, self.queue.margin = overhead, margin

    @rule()
    def take(self) -> None:
        most_urgent = min((int(e.priority) for e in self.waiting.values() if self._can_run(e)), default=None)
        take = self.queue.next_batch(self.now)
        for entry in take.expired:
            assert entry.deadline - entry.least_seconds - self.queue.overhead * entry.steps < self.now
        for entry in take.batch + take.expired:
            assert entry.id not in self.ended, "twice"
            assert entry.state is (RequestState.RUNNING if entry in take.batch else RequestState.EXPIRED)
            del self.waiting[entry.id]
            self.ended.add(entry.id)
        if not take.batch:
            return
        assert len({entry.bucket for entry in take.batch}) == 1
        assert len(take.batch) <= LIMITS.max_batch
        assert len(take.batch) == 1 or len(take.batch) * take.batch[0].bucket.pixels <= LIMITS.max_batch_pixels
        assert all(
            entry.state is RequestState.RUNNING and entry.selection in entry.route_options for entry in take.batch
        )
        if len(take.batch) > 1:
            assert self.now + take.predicted_seconds <= min(entry.deadline for entry in take.batch) + 1e-9
        if all(entry.trial is None for entry in take.batch):  # what is tried runs though it seemed that it cannot
            # What has become dearer since it came leads until its old moment: nobody more urgent is passed over for it.
            assert most_urgent is None or min(int(entry.priority) for entry in take.batch) <= most_urgent
        self.running.append(take.batch)

    def _can_run(self, entry: Entry) -> bool:
        return (
            entry.state is RequestState.READY
            and entry.deadline - entry.least_seconds - self.queue.overhead * entry.steps >= self.now
        )

    @precondition(lambda self: self.running)
    @rule()
    def done(self) -> None:
        self.queue.finish_batch(self.running.pop(0), self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.queue.withdraw(id)
        del self.waiting[id]
        self.ended.add(id)

    @rule()
    def clear(self) -> None:
        assert {entry.id for entry in self.queue.clear()} == set(self.waiting)
        self.ended |= set(self.waiting)
        self.waiting.clear()

    @invariant()
    def nobody_is_lost_and_bounds_hold(self) -> None:
        queued = list(self.waiting.values())
        assert len(self.queue) == len(queued) <= LIMITS.max_items
        assert all(entry.state in WAITING for entry in queued)
        assert self.queue.nbytes == sum(entry.nbytes for entry in queued) <= LIMITS.max_bytes
        assert self.queue.running == sum(map(len, self.running))
        batches = -(-len(queued) // LIMITS.max_batch) * self.queue.overhead
        assert abs(self.queue.work(1e9) - sum(entry.most_seconds for entry in queued) - batches) < 1e-6
        for client in "abc":
            mine = [e for e in queued if e.client == client] + [
                e for b in self.running for e in b if e.client == client
            ]
            assert len(mine) <= LIMITS.client_items

    def teardown(self) -> None:
        """Route and take until nothing waits: everybody comes out, and an empty queue is as good as new."""
        for entry in self.routing:
            self.queue.price(entry, entry.route_options)
        for _ in range(2 * len(self.waiting) + 1):  # to be routed, and to be run
            while unrouted := self.queue.next_to_route(self.now):
                for entry in unrouted:
                    self.queue.price(entry, entry.route_options)
            self.take()
        assert not self.waiting
        while self.running:
            self.done()
        assert (len(self.queue), self.queue.nbytes, self.queue.running, self.queue.work(self.now)) == (0, 0, 0, 0.0)
        for number in range(LIMITS.client_items):  # no client is still held responsible for anything
            self.queue.enqueue(
                Entry(f"new{number}", SIZES[0], self.now + 1e6, (RouteOption(0.1),), client="a"), self.now
            )


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
