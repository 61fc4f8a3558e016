"""Which ready requests of one size share the next batch, and by which route each is answered."""

from __future__ import annotations

import math
from typing import NamedTuple

from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.ready_requests import FairQueue


class BatchBounds(NamedTuple):
    """What a batch may be. Seconds are predicted."""

    items: int  #: most of this size
    device_items: int  #: most of any size
    overhead: float  #: seconds of one pass through the network
    margin: float  #: relative, of predictions
    demand: tuple[float, ...]  #: seconds that all waiting requests would like, by deadline class
    backlog: float = 0.0  #: seconds that those would like which a queue elsewhere holds for this device, these included


class FilledBatch(NamedTuple):
    """The members in the order of their turns, each with its route; what stopped the batch; its predicted seconds."""

    members: list[tuple[Entry, RouteOption]]
    limit: str
    seconds: float


def fill(queues: dict[int, FairQueue], lead: Entry, bounds: BatchBounds, now: float) -> FilledBatch:
    """Pop the members of the next batch from the fair queues of the lead's size; emptied queues are deleted.

    The lead's class goes first, then the others of its bucket, shorter budgets first. `limit` is "empty", "max",
    "vram" or "slack", as in `batch_scheduler.BatchDecision`.
    """
    members: list[tuple[Entry, RouteOption]] = []
    total, steps, earliest = 0.0, 0.0, math.inf
    for group in sorted(queues, key=lambda group: (group != lead.group, group)):
        queue = queues[group]
        while (entry := queue.peek()) is not None:
            if len(members) >= bounds.items:
                limit = "max" if bounds.items >= bounds.device_items else "vram"
                return FilledBatch(members, limit, total + steps * bounds.overhead)
            longest, due = max(steps, entry.steps), min(earliest, entry.deadline)
            seconds = longest * bounds.overhead + total
            option = _affordable(entry, now, due, seconds, bounds, is_first=not members)
            if option is None:
                return FilledBatch(members, "slack", total + steps * bounds.overhead)
            queue.pop(option.cost + entry.steps * bounds.overhead)
            members.append((entry, option))
            total, steps, earliest = total + option.cost, longest, due
        del queues[group]
    return FilledBatch(members, "empty", total + steps * bounds.overhead)


def _affordable(
    entry: Entry, now: float, due: float, batch_seconds: float, bounds: BatchBounds, *, is_first: bool
) -> RouteOption | None:
    """Pick the dearest way that keeps the batch in time and leaves time for what else waits; None: none does."""
    # Alone it may use all the time it has: better late by the margin's odds than never tried.
    factor = 1.0 if is_first else 1.0 + bounds.margin
    share = math.inf
    if len(entry.route_options) > 1:
        # What is queued elsewhere has no routes yet, so this request's part of it is what it was predicted without one.
        for own, demand in (
            (entry.most_seconds, sum(bounds.demand[: entry.group + 1])),
            (entry.usual_seconds, bounds.backlog),
        ):
            if demand > own:
                share = min(share, (entry.deadline - now) * own / demand)
    for option in entry.route_options:
        is_in_share = option.cost <= share or option is entry.route_options[-1]
        if is_in_share and now + (batch_seconds + option.cost) * factor <= due:
            return option
    return entry.route_options[-1] if is_first else None
