"""One simulated worker: a queue, a device, and the turns of `service.engine.device_thread` on a simulated clock."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.core.types import Quality, Route, RoutePolicy
from service.engine.request_queue import Pending, ScheduledBatch
from service.engine.scheduling.cost_model import CostModel, Load
from service.engine.scheduling.pricing import needs_routing
from service.engine.scheduling.request_state import ENDS, RequestState
from simulator.clock import Clock
from simulator.device import Device
from simulator.outcomes import Outcomes
from simulator.policies.queues import QueuePolicy


@dataclass(slots=True, eq=False)
class SimulatedRequest(Pending):
    """A request that remembers when its caller sent it, wherever it has waited since."""

    sent_at: float = 0.0


def sent_at(pending: Pending) -> float:
    """Return the time at which its caller sent the request."""
    return pending.sent_at if isinstance(pending, SimulatedRequest) else pending.entry.enqueued_at


class Worker:
    """Takes requests from a router. `on_outcome` is called after each outcome, so that a queue can send more."""

    def __init__(
        self,
        clock: Clock,
        policy: QueuePolicy,
        device: Device,
        cost: CostModel,
        outcomes: Outcomes,
        chance: random.Random,
        on_outcome: Callable[[Worker], None] = lambda worker: None,
    ) -> None:
        self.policy = policy
        self.in_flight = 0
        self.busy_seconds = 0.0
        self._clock, self._device, self._cost, self._outcomes = clock, device, cost, outcomes
        self._chance, self._on_outcome = chance, on_outcome
        self._busy = False
        self._number = 0

    def offer(self, pending: Pending) -> None:
        """Queue a request and start on it if idle. Raises what the policy raises."""
        self.policy.enqueue(pending, self._clock.now)
        self.in_flight += 1
        self._clock.at(pending.entry.deadline, self._expire, pending)
        if not self._busy:
            self._turn()

    # --- the device thread ----------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = self._clock.now
        if (time := self.policy.hold_until(now)) is not None:
            self._clock.at(time, self._end_window)
            return
        if unrouted := self.policy.next_to_route(now):
            self._work(self._device.routing_seconds(unrouted[0].entry.bucket, len(unrouted)), self._price, unrouted)
            return
        turn = self.policy.next_batch(now)
        for pending in turn.expired:
            self._tell_expired(pending, ran=False)
        if turn.batch:
            self._outcomes.batches += 1
            self._run_part(turn, 0, [], 0.0)

    def _end_window(self) -> None:
        if not self._busy:
            self._turn()

    def _work(self, seconds: float, then: Callable[..., None], *arguments: object) -> None:
        self._busy = True
        self.busy_seconds += seconds
        self._clock.at(self._clock.now + seconds, then, *arguments)

    def _price(self, requests: list[Pending]) -> None:
        self._busy = False
        prices = []
        for pending in requests:
            options = pending.request.options
            route = self._choose(pending)
            ladder = self._device.table.probabilities if options.quality is Quality.ADAPTIVE else None
            prices.append((pending, self._cost.route_options(pending.entry.bucket, route, ladder, 1, 0)))
        self.policy.price(prices)
        self._turn()

    def _choose(self, pending: Pending) -> Route:
        self._number += 1
        route = self._device.route(pending.request.options, self._number)
        if pending.request.options.route.policy in (RoutePolicy.AUTO, RoutePolicy.SAMPLE):
            self._cost.record_route(route)
        return route

    def _run_part(self, turn: ScheduledBatch, start: int, loads: list[Load], seconds: float) -> None:
        now = self._clock.now
        part = turn.batch[start : start + self._device.rows]
        rows = [p for p in part if p.entry.state is RequestState.RUNNING and now < p.entry.deadline]
        if not rows:  # their callers were told while earlier parts ran
            self._end_part(turn, start, (), None, loads, seconds, 0.0)
            return
        bucket = rows[0].entry.bucket
        routes, routings = [], 0
        for pending in rows:
            option = pending.entry.selection
            decision = None if option is None else option.route
            routings += decision is None and needs_routing(pending.request.options)
            routes.append(decision or self._choose(pending))
        load = Load.of(bucket, routes, 1, routings)
        duration = self._device.seconds(bucket, load, self._chance)
        blocks = [sum(route) for route in routes]
        self._work(
            duration, self._end_part, turn, start, tuple(zip(rows, blocks, strict=True)), load, loads, seconds, duration
        )

    def _end_part(
        self,
        turn: ScheduledBatch,
        start: int,
        answers: Sequence[tuple[Pending, int]],
        load: Load | None,
        loads: list[Load],
        seconds: float,
        duration: float,
    ) -> None:
        now, rows = self._clock.now, self._device.rows
        if load is not None:
            loads.append(load)
        self._outcomes.rows += len(answers)
        part = turn.batch[start : start + rows]
        last = start + len(part) >= len(turn.batch)
        self.policy.finish_batch(part, now)
        if last:
            self._learn(turn, loads, seconds + duration)
        for pending, blocks in answers:
            if pending.entry.state is RequestState.RUNNING:
                self._outcomes.record_answer(sent_at(pending), now, pending.entry, blocks, duration / len(answers))
                self._settle(pending, RequestState.DONE)
        if last:
            self._busy = False
            self._turn()
        else:
            self._run_part(turn, start + rows, loads, seconds + duration)

    def _learn(self, turn: ScheduledBatch, loads: list[Load], seconds: float) -> None:
        # As the service: without skipped parts, what they took together tells how good the prediction was.
        parts = -(-len(turn.batch) // self._device.rows)
        if len(loads) == parts:
            self._cost.observe(turn.batch[0].entry.bucket, functools.reduce(_beside, loads), seconds)
        self.policy.refresh_costs()

    # --- outcomes -------------------------------------------------------------------------------------------------

    def _expire(self, pending: Pending) -> None:
        before = self.policy.expire(pending)
        if before not in ENDS:
            self._tell_expired(pending, ran=before is RequestState.RUNNING)

    def _tell_expired(self, pending: Pending, *, ran: bool) -> None:
        self._outcomes.record_expiry(sent_at(pending), ran=ran)
        self._settle(pending, RequestState.EXPIRED)

    def _settle(self, pending: Pending, state: RequestState) -> None:
        self.policy.complete(((pending, state),))
        self.in_flight -= 1
        self._on_outcome(self)


def _beside(one: Load, other: Load) -> Load:
    """Combine two loads into one batch."""
    return Load(
        passes=max(one.passes, other.passes),
        pixels=one.pixels + other.pixels,
        routing_pixels=one.routing_pixels + other.routing_pixels,
        blocks=tuple(a + b for a, b in zip(one.blocks, other.blocks, strict=True)),
    )
