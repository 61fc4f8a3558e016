"""Judges whether a request can be in time, with a safety factor that it learns, and when a refusal is put to the test.

Pure: time and costs are arguments. Knows no queue: what is ahead of a request is handed in as `WorkAhead`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded
from service.engine.scheduling.entry import Entry

#: The safety factor grows with every request that was admitted and expired, and shrinks with every one that ran:
#: in balance one of twenty expires. Predictions cannot know who will come later and rightly go first.
SAFETY_UP, SAFETY_DOWN, SAFETY_MOST = 1.02, 0.999, 3.0
#: What is left of the safety factor above 1 whenever the device has nothing more to do: the rush that taught it is
#: over. Without this, hundreds of requests after a rush would be refused too early.
SAFETY_AFTER_IDLE = 0.5
#: Most requests refused between two trials of one kind on an idle device.
MOST_REFUSED = 4
#: A trial that took less than this share of its predicted time proved the prediction wrong.
PROVED_WRONG = 0.8
#: On a busy device one request that prediction alone refuses is tried in so many seconds.
BUSY_TRIAL_S = 10.0
#: Kinds of refusals, and sizes, that trials are remembered for.
KINDS = 512


class WorkAhead(NamedTuple):
    """What a request finds. Seconds are predicted; `work` and `client_work` are the least that could be spent."""

    start: float  #: when the device will be free
    busy: bool  #: something runs
    waiting: int  #: requests of all classes
    batches: int  #: that they make at least
    work: float  #: of its class and those before it
    client_work: float  #: of its own client
    clients: int
    overhead: float  #: of one pass through the network
    margin: float  #: relative, of predictions


class RefusalKind(NamedTuple):
    """Refusals that one trial speaks for: a size, a class of deadlines, and the power of two of the predicted time."""

    bucket: Bucket
    group: int
    magnitude: int


class Trials:
    """Which of the requests that prediction alone refuses run all the same, so that the prediction is measured.

    Refused work is never measured, so that a wrong prediction would refuse it for ever. On an idle device the second
    request of a kind that would be refused is tried. Where that proves the prediction right, two are refused before
    the next trial, then four, and no more than that; where it proves it wrong, the next of that size is tried at once.
    On a busy device one is tried every BUSY_TRIAL_S: sizes that always find it busy would else stay refused.
    """

    def __init__(self) -> None:
        #: Refused since the last trial, and how many are to be refused before the next.
        self._refusals: OrderedDict[RefusalKind, tuple[int, int]] = OrderedDict()
        #: Sizes whose last trial proved the prediction wrong.
        self._wrong: OrderedDict[Bucket, None] = OrderedDict()
        self._busy_at: float | None = None

    def due(self, kind: RefusalKind) -> bool:
        """Tell whether to run a request that an idle device would refuse; if not, count it as refused."""
        if kind.bucket in self._wrong:
            return True
        refusals, wait = self._refusals.get(kind, (0, 1))
        is_due = refusals >= wait
        self._remember(kind, (0 if is_due else refusals + 1, wait))
        return is_due

    def due_behind_others(self, own: float, deadline: float, now: float) -> bool:
        """Tell the same of a request that finds others, where its `own` predicted seconds alone would make it late.

        True once in BUSY_TRIAL_S, from BUSY_TRIAL_S after the first refusal on. Times are on one clock, seconds.
        """
        if now + own <= deadline:
            return False
        if self._busy_at is None:
            self._busy_at = now + BUSY_TRIAL_S
        if now < self._busy_at:
            return False
        self._busy_at = now + BUSY_TRIAL_S
        return True

    def record(self, kind: RefusalKind, ratio: float) -> None:
        """Learn from a trial that took `ratio` times its predicted time."""
        if ratio < PROVED_WRONG:
            self._wrong[kind.bucket] = None
            self._wrong.move_to_end(kind.bucket)
            if len(self._wrong) > KINDS:
                self._wrong.popitem(last=False)
            return
        self._wrong.pop(kind.bucket, None)
        refusals, wait = self._refusals.get(kind, (0, 1))
        self._remember(kind, (refusals, min(2 * wait, MOST_REFUSED)))

    def _remember(self, kind: RefusalKind, counts: tuple[int, int]) -> None:
        self._refusals[kind] = counts
        self._refusals.move_to_end(kind)
        if len(self._refusals) > KINDS:
            self._refusals.popitem(last=False)


class Admission:
    """Judges by prediction, with a safety factor that it learns, and tries what it would refuse by prediction alone."""

    def __init__(self) -> None:
        self._safety_factor = 1.0
        self._trials = Trials()

    def check(self, entry: Entry, now: float, ahead: WorkAhead) -> None:
        """Raise DeadlineExceeded where `entry` would be late; where it is to be tried all the same, mark it."""
        finish, idle = self.predicted_finish(entry, now, ahead)
        if finish <= entry.deadline or self._is_tried(entry, now, ahead, idle=idle):
            return
        raise DeadlineExceeded(
            f"it would take about {(finish - now) * 1000:.0f} ms, the deadline is in "
            f"{(entry.deadline - now) * 1000:.0f} ms",
            reason="unmeetable",
            # On an idle device waiting does not help.
            retry_after=None if idle else max(finish - entry.deadline, 0.001),
        )

    def predicted_finish(self, entry: Entry, now: float, ahead: WorkAhead) -> tuple[float, bool]:
        """Predict when it would be answered if nothing more urgent came; also tell whether nothing is ahead of it."""
        own = entry.least_seconds + ahead.overhead * entry.steps
        if ahead.work <= 0.0 or not ahead.waiting:
            # Nobody waits whom it could make late: the odds are its own to take.
            return ahead.start + own, not ahead.busy
        # Clients take turns, so no more than as much again is ahead for each of them.
        work = min(ahead.work, (entry.least_seconds + ahead.client_work) * (ahead.clients + 1))
        work = (work + ahead.overhead * ahead.batches) * self._safety_factor + own
        # The margin is one batch's. Over several, errors cancel: the sum of n is off by a root of n of them.
        return ahead.start + work + ahead.margin * math.sqrt((ahead.start - now + work) * own), False

    def is_tried_late(self, entry: Entry, now: float, overhead: float) -> bool:
        """Tell whether to try a waiting request that can no longer be in time by what was learnt since its admission.

        Its own time alone must be the reason, else it expires as any other.
        """
        own = entry.least_seconds + overhead * entry.steps
        is_own_fault = entry.deadline > now and entry.enqueued_at + own > entry.deadline
        if not is_own_fault or not self._trials.due(_kind(entry, own)):
            return False
        self._mark(entry, own, now)
        return True

    def record_trial(self, entry: Entry, ratio: float) -> None:
        """Learn from a request on trial that took `ratio` times its predicted time."""
        if entry.trial is not None:
            self._trials.record(RefusalKind(*entry.trial), ratio)

    def record_run(self) -> None:
        """Lower the safety factor a little: an admitted request runs."""
        self._safety_factor = max(1.0, self._safety_factor * SAFETY_DOWN)

    def record_expiry(self) -> None:
        """Raise the safety factor: an admitted request expired as it waited."""
        self._safety_factor = min(SAFETY_MOST, self._safety_factor * SAFETY_UP)

    def record_idle(self) -> None:
        """Lower the safety factor towards 1: the device has nothing to do."""
        self._safety_factor = 1.0 + (self._safety_factor - 1.0) * SAFETY_AFTER_IDLE

    def _is_tried(self, entry: Entry, now: float, ahead: WorkAhead, *, idle: bool) -> bool:
        own = entry.least_seconds + ahead.overhead * entry.steps
        if idle and not entry.is_trial:
            is_due = self._trials.due(_kind(entry, own))
        else:
            is_due = entry.is_trial or self._trials.due_behind_others(own, entry.deadline, now)
        if is_due:
            self._mark(entry, own, now)
        return is_due

    @staticmethod
    def _mark(entry: Entry, own: float, now: float) -> None:
        entry.trial, entry.cost_limit = _kind(entry, own), entry.deadline - now


def _kind(entry: Entry, own: float) -> RefusalKind:
    return RefusalKind(entry.bucket, entry.group, math.frexp(own)[1])
