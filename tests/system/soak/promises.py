"""What the figures of a soak must be."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.history import ON_THE_WAY, Ended, Guarantee, Verdict, judge_calls
from tests.system.soak.load import Tally
from tests.system.soak.plan import Plan

#: MiB of resident memory that a run may add: overload beyond what the queue may hold, and mixed requests.
OVERLOAD_GROWTH, MIXED_GROWTH = 64.0, 20.0


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure and whether it is as promised."""

    kept: bool
    text: str

    def __str__(self) -> str:
        return f"{'kept  ' if self.kept else 'BROKEN'}  {self.text}"


def of_overload(plan: Plan, capacity: float, full: Tally, adaptive: Tally, grew: float, more: float) -> list[Promise]:
    """What the two overloads showed: `grew` over all, `more` from the first half of the time to the second."""
    latest_ms = plan.deadline_ms + 1000 * ON_THE_WAY
    goodput = full.answered / full.seconds / capacity
    ratio = adaptive.answered / max(1, full.answered)
    found = [
        Promise(goodput >= 0.9, f"goodput {goodput:.1%} of capacity at {plan.load:g} times the load (>= 90%)"),
        Promise(ratio >= 1.5, f"adaptive routes answer {ratio:.2f} times as many in time (>= 1.5)"),
        Promise(grew <= OVERLOAD_GROWTH, f"memory grew by {grew:.1f} MiB under overload (<= {OVERLOAD_GROWTH:g})"),
        Promise(more <= MIXED_GROWTH, f"and by {more:.1f} MiB from its first half to its second (<= {MIXED_GROWTH:g})"),
    ]
    for name, tally in (("full", full), ("adaptive", adaptive)):
        late, without = _late(tally, plan.deadline_ms / 1000), tally.without_wait
        refused = sum(tally.statuses[status] for status in (429, 503, 504))
        accounted = tally.answered + refused == sum(tally.statuses.values()) == tally.asked
        found += [
            Promise(
                late == 0,
                f"{name}: {late} of {tally.answered} answers came later than {latest_ms:.0f} ms",
            ),
            Promise(without == 0, f"{name}: {without} of {refused} refusals did not say how long to wait"),
            Promise(accounted, f"{name}: {tally.asked} asked, replies {dict(tally.statuses)}"),
        ]
    return found


def _late(tally: Tally, deadline_s: float) -> int:
    """Count the answers after their deadline, by the checker that chaos and the simulation use."""
    verdict = Verdict()
    judge_calls(verdict, (Ended("", 0.0, deadline_s, seconds, "ok") for seconds in tally.answered_after))
    return verdict.count(Guarantee.LATE)
