"""The queue under load on a simulated clock: what it promises, in figures (printed; `pytest -rP` shows them)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from service.core.bucket import Bucket
from service.core.errors import ServiceError
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry

SMALL, LARGE = Bucket(720, 1280, 1.0), Bucket(1088, 1920, 1.0)
#: A device: seconds a pass, of routing and of one block, and how far a batch strays from its prediction.
PASS, ROUTING, BLOCK, NOISE = 0.002, 0.001, 0.0015, 0.03
FULL = 9 * BLOCK + ROUTING
CAPACITY = 1 / (FULL + PASS / QueueLimits().max_batch)  #: nine-block frames a second in full batches


@dataclass
class Tally:
    """What became of the requests."""

    sent: int = 0
    on_time: int = 0
    late: int = 0
    expired: int = 0
    refused: int = 0
    without_advice: int = 0
    most_waiting: int = 0


def serve(
    *, load: float, seconds: float, budget: float, adaptive: bool, sizes: tuple[Bucket, ...] = (SMALL, LARGE)
) -> Tally:
    """Requests at `load` times the capacity for some seconds, from five clients, each due `budget` s after it came."""
    queue, chance, tally = BatchScheduler(QueueLimits()), random.Random(7), Tally()
    queue.overhead, queue.margin = PASS, 2 * NOISE
    now = arrival = 0.0
    while arrival < seconds or len(queue):
        while arrival <= now and arrival < seconds:
            tally.sent += 1
            blocks = range(9, 0, -1) if adaptive else (9,)
            rungs = tuple(RouteOption(ROUTING + BLOCK * count) for count in blocks)
            waiting = Entry(
                str(tally.sent), sizes[tally.sent % len(sizes)], arrival + budget, rungs, client=str(tally.sent % 5)
            )
            try:
                queue.enqueue(waiting, arrival)
            except ServiceError as refused:
                tally.refused += 1
                tally.without_advice += refused.retry_after is None
            arrival += chance.expovariate(load * CAPACITY)
        take = queue.next_batch(now)
        tally.expired += len(take.expired)
        tally.most_waiting = max(tally.most_waiting, len(queue))
        if not take.batch:
            now = max(now, arrival)
            continue
        now += take.predicted_seconds * chance.lognormvariate(0, NOISE)
        in_time = sum(now <= entry.deadline for entry in take.batch)
        tally.on_time += in_time
        tally.late += len(take.batch) - in_time
        queue.finish_batch(take.batch, now)
    return tally


def test_below_its_capacity_everybody_is_in_time_with_every_block() -> None:
    tally = serve(load=0.6, seconds=60, budget=0.5, adaptive=False)
    print(tally)
    assert tally.on_time >= 0.999 * tally.sent


@pytest.mark.parametrize("budget", [0.1, 0.5, 2.0])
def test_at_three_times_its_capacity_it_answers_as_many_in_time_as_it_can(budget: float) -> None:
    tally = serve(load=3.0, seconds=60, budget=budget, adaptive=False)
    print(f"goodput {tally.on_time / 60 / CAPACITY:.1%} of capacity: {tally}")
    assert tally.on_time / 60 >= 0.9 * CAPACITY
    assert tally.late <= 0.01 * tally.on_time  # these ran in vain; the batcher does not answer them
    assert tally.expired <= 0.1 * tally.on_time  # admission learns to refuse on arrival what will not be in time
    assert tally.without_advice == 0
    assert tally.most_waiting <= QueueLimits().max_items
    assert tally.sent == tally.on_time + tally.late + tally.expired + tally.refused


@pytest.mark.parametrize("budget", [0.1, 0.5, 2.0])
def test_with_adaptive_routes_overload_is_answered_with_shorter_ones(budget: float) -> None:
    full = serve(load=3.0, seconds=60, budget=budget, adaptive=False)
    adaptive = serve(load=3.0, seconds=60, budget=budget, adaptive=True)
    print(f"{adaptive.on_time / full.on_time:.2f} times the on-time answers of full routes")
    assert adaptive.on_time >= 1.5 * full.on_time


def test_two_sizes_that_come_alternately_keep_one_sizes_throughput() -> None:
    one = serve(load=1.5, seconds=60, budget=1.0, adaptive=False, sizes=(SMALL,))
    two = serve(load=1.5, seconds=60, budget=1.0, adaptive=False, sizes=(SMALL, LARGE))
    print(f"{two.on_time / one.on_time:.1%} of one size's throughput")
    assert two.on_time >= 0.9 * one.on_time
