"""Clients share a device by the time they have of it."""

from __future__ import annotations

import random

from service.core.bucket import Bucket
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.fair_shares import REMEMBERED, FairShares

SMALL, LARGE = Bucket(64, 64, 1.0), Bucket(256, 448, 1.0)


def entry(name: str, client: str, seconds: float, bucket: Bucket = SMALL) -> Entry:
    return Entry(name, bucket, 1e6, (RouteOption(seconds),), client=client)


def served(waiting: BatchScheduler, seconds: float) -> dict[str, float]:
    """Seconds of the device that each client gets of the next `seconds`."""
    now, shares = 0.0, dict[str, float]()
    while now < seconds and (batch := waiting.next_batch(now).batch):
        for taken in batch:
            shares[taken.client] = shares.get(taken.client, 0.0) + taken.most_seconds
            now += taken.most_seconds
        waiting.finish_batch(batch, now)
    return shares


def test_a_client_of_long_requests_gets_no_more_of_the_device_than_one_of_short_ones() -> None:
    """Turns by requests gave it 16 seconds of 17."""
    waiting = BatchScheduler(QueueLimits(max_batch=1, max_items=2000))
    for k in range(40):
        waiting.enqueue(entry(f"long-{k}", "long", 0.16), 0.0)
    for k in range(640):
        waiting.enqueue(entry(f"short-{k}", "short", 0.01), 0.0)
    shares = served(waiting, 4.0)
    assert abs(shares["long"] - shares["short"]) <= 0.17


def test_the_time_of_all_sizes_counts() -> None:
    waiting = BatchScheduler(QueueLimits(max_batch=1))
    for k in range(30):
        waiting.enqueue(entry(f"a-{k}", "both", 0.1, LARGE), 0.0)
        waiting.enqueue(entry(f"b-{k}", "both", 0.1), 0.0)
        waiting.enqueue(entry(f"c-{k}", "one", 0.1), 0.0)
    shares = served(waiting, 4.5)
    assert shares["one"] > 1.9, "of 4.5 s, half of which the large size has to itself"


def test_who_comes_later_has_saved_nothing_up_and_who_was_idle_owes_nothing() -> None:
    shares = FairShares()
    for _ in range(5):
        place = shares.place("early")
        shares.charge("early", place, 1.0, place)
    assert shares.place("late") == 4.0, "the lowest place of those that waited last"
    assert shares.place("early") == 5.0
    shares.rest()
    assert shares.place("late") == shares.place("early") == 5.0


def test_places_of_clients_that_are_gone_are_forgotten() -> None:
    shares, rng = FairShares(), random.Random(1)
    for k in range(5 * REMEMBERED):
        for client, seconds in ((f"client-{k}", rng.uniform(0.0, 0.1)), ("steady", 0.1)):
            place = shares.place(client)
            shares.charge(client, place, seconds, place)
    assert len(shares._places) <= REMEMBERED
