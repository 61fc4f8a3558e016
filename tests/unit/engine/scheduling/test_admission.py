"""However wrong predictions have become, an idle device refuses a few requests at most before it answers all again."""

from __future__ import annotations

import random

import pytest

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded
from service.core.types import Route
from service.engine.scheduling.admission import BUSY_TRIAL_S
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import FACTOR_BAND, RATE_BAND, CostModel, Load, RouteOption
from service.engine.scheduling.entry import Entry
from tests.unit.engine.scheduling.test_cost_bounds import NOISES, SIZES, feed, fitted, route_of, true_seconds

FULL = route_of(9)
#: How a request may ask: its ways to be answered, dearest first, as `engine.line` prices them.
KINDS = ("full", "one block", "unrouted", "adaptive")


def ways(model: CostModel, kind: str, bucket: Bucket) -> tuple[RouteOption, ...]:
    if kind == "unrouted":
        return model.route_options(bucket, None, None, 1, 1)
    if kind == "adaptive":
        return model.route_options(bucket, FULL, (1.0,) * 9, 1, 1)
    return model.route_options(bucket, FULL if kind == "full" else route_of(1), None, 1, 1)


class Desk:
    """One device on a simulated clock, with honest times, asked by one caller after the other."""

    def __init__(self, model: CostModel) -> None:
        self.model, self.queue, self.now = model, BatchScheduler(QueueLimits()), 0.0

    def ask(self, bucket: Bucket, kind: str, seconds: float) -> bool:
        """Whether a request that allows so many seconds is answered in time; the device is idle when it comes."""
        self.queue.overhead, self.queue.margin = self.model.passes, self.model.margin
        request = Entry("one", bucket, self.now + seconds, ways(self.model, kind, bucket))
        try:
            self.queue.enqueue(request, self.now)
        except DeadlineExceeded:
            return False
        take = self.queue.next_batch(self.now)
        if not take.batch:
            return False
        rung = request.selection
        route: Route = (rung and rung.route) or (FULL if kind in ("full", "unrouted") else route_of(1))
        took = true_seconds(bucket, sum(route))
        trial = request.trial is not None
        ratio = self.model.observe(bucket, Load.of(bucket, [route], 1, 1), took, trial=trial)
        self.queue.record_trial(request, ratio)
        self.now += took
        self.queue.finish_batch(take.batch, self.now)
        return self.now <= request.deadline


def worst(chance: random.Random) -> CostModel:
    """As dear as what it may learn: every rate and factor at its upper edge."""
    model = fitted()
    model.blocks, model.routing_rate = [rate * RATE_BAND for rate in model.blocks], model.routing_rate * RATE_BAND
    model.passes *= RATE_BAND
    for bucket in SIZES:
        model.factors[bucket] = FACTOR_BAND
    return model


@pytest.mark.parametrize("allowed", [1.3, 3.0, 20.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*NOISES, "worst"])
def test_after_noise_of_any_kind_an_idle_device_refuses_a_handful_at_most(name: str, kind: str, allowed: float) -> None:
    chance = random.Random(5)
    if name == "worst":
        model = worst(chance)
    else:
        model = fitted()
        feed(model, NOISES[name], chance, 800)
    desk = Desk(model)
    for bucket in SIZES:
        answered = [desk.ask(bucket, kind, allowed * true_seconds(bucket, 9)) for _ in range(60)]
        assert answered.count(False) <= 5, (bucket, answered)
        assert all(answered[10:])


def test_the_impossible_is_refused_most_of_the_time_and_changes_no_prediction_for_the_worse() -> None:
    desk, bucket = Desk(fitted()), SIZES[2]
    assert [desk.ask(bucket, "full", 0.001) for _ in range(200)].count(True) == 0
    assert desk.now <= 45 * true_seconds(bucket, 9), "trials took more of the device than one in five does"
    assert all(desk.ask(bucket, "full", 1.2 * true_seconds(bucket, 9)) for _ in range(20))


def test_a_size_that_always_finds_the_device_busy_with_another_is_not_refused_for_ever() -> None:
    desk, doubted = Desk(worst(random.Random(1))), SIZES[1]
    answered, seconds = 0, 0.0
    while seconds < 20 * BUSY_TRIAL_S:
        seconds += 0.25
        running = Entry("other", SIZES[2], seconds + 100.0, (RouteOption(0.2),))
        desk.queue.enqueue(running, seconds)
        desk.queue.next_batch(seconds)
        request = Entry("doubted", doubted, seconds + 0.5, ways(desk.model, "full", doubted))
        try:
            desk.queue.enqueue(request, seconds + 0.1)
        except DeadlineExceeded:
            desk.queue.finish_batch((running,), seconds + 0.2)
            continue
        desk.queue.finish_batch((running,), seconds + 0.2)
        assert desk.queue.next_batch(seconds + 0.2).batch == (request,)
        load, is_trial = Load.of(doubted, [FULL], 1, 1), request.trial is not None
        ratio = desk.model.observe(doubted, load, true_seconds(doubted, 9), trial=is_trial)
        desk.queue.record_trial(request, ratio)
        desk.queue.finish_batch((request,), seconds + 0.21)
        answered += 1
    assert answered > 0.75 * 80 * BUSY_TRIAL_S


def test_what_a_front_end_tries_is_tried_here_whether_or_not_it_would_be() -> None:
    """It is refused once in many; and two that each try one in many would try next to none."""
    queue = BatchScheduler(QueueLimits())
    running = Entry("other", SIZES[2], 100.0, (RouteOption(5.0),))
    for now, is_busy in ((0.0, False), (0.1, True)):
        with pytest.raises(DeadlineExceeded):
            queue.enqueue(Entry("refused", SIZES[1], now + 0.5, (RouteOption(9.0),)), now)
        trial = Entry("tried", SIZES[1], now + 0.5, (RouteOption(9.0),), is_trial=True)
        queue.enqueue(trial, now)
        assert trial.trial is not None
        if not is_busy:
            assert queue.next_batch(now).batch == (trial,)
            queue.finish_batch((trial,), now + 0.05)
            queue.enqueue(running, now + 0.06)
            assert queue.next_batch(now + 0.06).batch == (running,)
