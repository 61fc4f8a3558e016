"""What a deadline means: when it is, which class of urgency it puts a request in, and who goes first.

Pure arithmetic on seconds of one monotonic clock; knows no queue.
"""

from __future__ import annotations

import math

from service.core.errors import InvalidRequest
from service.core.types import Priority

#: Budgets are counted up to here, so that "no deadline" (infinity) still has an order. Seconds, twelve days.
FOREVER = 2.0**20
#: Shorter budgets than this share one class. Seconds.
SHORTEST = 2.0**-10
#: Deadline classes: one per doubling of the budget, and as many again for each lower priority.
CLASSES_PER_PRIORITY = 32
CLASSES = CLASSES_PER_PRIORITY * len(Priority)
#: How much a waiting second counts: at 1, a budget of 30 s overtakes fresh budgets of 1 s after 14.5 s.
AGEING = 1.0


def resolve(now: float, asked_ms: float | None, *, default_ms: float, max_ms: float, field: str) -> float:
    """Return the moment by which a caller wants its answer. Raises InvalidRequest, naming `field`, for nonsense.

    `asked_ms` is counted from `now`; None means the default. More than `max_ms` is refused rather than cut,
    since a caller that believes it has an hour must learn that it has not.
    """
    if asked_ms is None:
        return now + default_ms / 1000
    if not 0 < asked_ms <= max_ms:  # also refuses nan
        raise InvalidRequest(f"{field} must be above 0 and at most {max_ms:g} milliseconds", field=field)
    return now + asked_ms / 1000


def deadline_class(priority: Priority, budget: float) -> int:
    """Group requests that may take turns: same priority, budgets (seconds) within a factor of two. Lower goes first."""
    # A hair more, since (now + 0.5) - now is not always 0.5 and must not change its class by that.
    exponent = math.frexp(min(max(budget * (1 + 1e-6), SHORTEST), FOREVER))[1] - math.frexp(SHORTEST)[1]
    return int(priority) * CLASSES_PER_PRIORITY + exponent


def urgency(arrival: float, deadline: float, cost: float) -> float:
    """Return the key of the waiting order, lower first: deadline less own cost, less what waiting has earned.

    Ageing subtracts AGEING * (now - enqueued) from everyone; `now` is common to all, so the order never changes
    while requests wait and a heap may hold it.
    """
    return arrival + min(deadline - arrival, FOREVER) - cost + AGEING * arrival
