"""What was promised to callers, what became of it, and which promises were broken: one checker for all runs.

Chaos (real processes), the soak and the simulation of the service fill in what they saw. Pure: knows no queue, no
transport and no fault. Times are seconds on one clock of the run's choice.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: An answer just in time by the service's clock may reach its caller this much later, seconds.
ON_THE_WAY = 0.05


class Guarantee(enum.StrEnum):
    """What is promised; the name of a breach says what happened."""

    LOST = "lost"  #: an accepted job ends as it should
    DOUBLE = "double"  #: each item is answered once
    WRONG = "wrong"  #: with the bytes that it asked for
    LEFT = "left"  #: nothing of an item stays behind, and counters return to zero
    LATE = "late"  #: no answer comes after its deadline, and each call ends by then
    UNFENCED = "unfenced"  #: only who holds an item's lease ends it
    REFUSED = "refused"  #: an idle, sound fleet refuses nothing
    SILENT = "silent"  #: front ends are ready, and say that they live, soon after all faults are over
    STARVED = "starved"  #: nobody waits for ever behind others
    DISORDERED = "disordered"  #: a stream's answers come in its order
    ABANDONED = "abandoned"  #: the device does not run what nobody waits for any more
    FAILED = "failed"  #: no call ends with an internal error


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken promise, told in a sentence."""

    promise: Guarantee
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job as promised by a 200 or 202, which was asked for at `sent` and had come by `at`.

    `guilty`: it is to fail, as a dead letter. `withdrawn`: its caller cancelled it, so that it may end either way.
    """

    number: int
    items: int
    sent: float
    at: float
    guilty: bool = False
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A waiting call that ended: `outcome` is "ok" or an error's code, `spared_s` what a pause of its process took."""

    name: str
    asked: float
    deadline: float
    ended: float
    outcome: str
    is_right: bool = True
    spared_s: float = 0.0
    why: str = ""  #: in the error's own words


@dataclass(frozen=True, slots=True)
class Publication:
    """An answer as it became an item's: by which worker, and who held the item's lease then (None: nobody)."""

    job: str
    item: int
    at: float
    worker: str = ""
    owner: str | None = ""


@dataclass(slots=True)
class Cuts:
    """When a server lost its last writes, and for how long before each its disk had promised nothing."""

    times: list[float] = field(default_factory=list)
    unsynced_s: float = 0.0

    def undid(self, at: float) -> bool:
        """Tell whether a cut may have undone what was written then."""
        return any(0 <= cut - at <= self.unsynced_s for cut in self.times)

    def excuse(self, job: Accepted) -> float | None:
        """Return how long a job was accepted before the cut that may have lost it; None where none may."""
        # Somewhere between question and answer it was written. The answer may have come after the cut.
        ages = [max(0.0, cut - job.at) for cut in self.times if job.sent <= cut]
        return min(ages) if self.unsynced_s and ages and min(ages) <= self.unsynced_s else None


@dataclass(slots=True)
class Verdict:
    """The breaches of one run, and what was lost but never promised; a line of `notes` for each thing worth reading."""

    jobs: int = 0
    breaches: list[Breach] = field(default_factory=list)
    unsynced: int = 0  #: lost, but accepted so shortly before a power cut that the settings promise nothing
    oldest_s: float = 0.0  #: the longest that one of them was accepted before the cut, seconds
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Tell whether every promise was kept."""
        return not self.breaches

    def broke(self, promise: Guarantee, text: str) -> None:
        """Add a breach."""
        self.breaches.append(Breach(promise, text))

    def count(self, promise: Guarantee) -> int:
        """Count the breaches of one promise."""
        return sum(breach.promise is promise for breach in self.breaches)


def judge_jobs(verdict: Verdict, accepted: Mapping[str, Accepted], states: Mapping[str, str], cuts: Cuts) -> list[str]:
    """Compare each job's last state with what it is to be; return those that are done, whose results are to be read."""
    done = []
    verdict.jobs += len(accepted)
    for job, promise in accepted.items():
        state = states.get(job, "missing")
        if state == "done" and not promise.guilty:
            done.append(job)
        if promise.withdrawn and state in ("done", "cancelled", "missing"):
            continue
        if state == ("failed" if promise.guilty else "done"):
            continue
        age = cuts.excuse(promise) if state == "missing" else None
        if age is None:
            verdict.broke(Guarantee.LOST, f"job {promise.number} is {state}")
        else:
            verdict.unsynced += 1
            verdict.oldest_s = max(verdict.oldest_s, age)
    return done


def judge_answers(verdict: Verdict, publications: Iterable[Publication], cuts: Cuts) -> None:
    """Find items that were answered twice, and answers of workers that did not hold the lease."""
    counts = Counter((p.job, p.item) for p in publications if not cuts.undid(p.at))
    for (job, item), count in counts.items():
        if count > 1:
            verdict.broke(Guarantee.DOUBLE, f"item {item} of job {job} was answered {count} times")
    for p in publications:
        if p.owner != p.worker:
            holder = p.owner or "nobody"
            verdict.broke(
                Guarantee.UNFENCED, f"item {p.item} of job {p.job} was answered by {p.worker}, held by {holder}"
            )


def judge_counts(
    verdict: Verdict, accepted: Mapping[str, Accepted], answers: Mapping[str, Sequence[float]], cuts: Cuts
) -> None:
    """Find jobs that have more answers than items, where only the times of a job's answers are known."""
    for job, promise in accepted.items():
        count = sum(not cuts.undid(at) for at in answers.get(job, ()))
        if count > promise.items:
            verdict.broke(Guarantee.DOUBLE, f"job {promise.number} of {promise.items} items was answered {count} times")


def judge_calls(verdict: Verdict, calls: Iterable[Ended], *, may_fail: bool = False) -> None:
    """Find calls that ended late, with wrong bytes, or (unless they `may_fail`) with an internal error."""
    for call in calls:
        late = call.ended - call.deadline - call.spared_s
        if late > ON_THE_WAY:
            verdict.broke(Guarantee.LATE, f"call {call.name} ended {late:.3f} s after its deadline ({call.outcome})")
        if not call.is_right:
            verdict.broke(Guarantee.WRONG, f"call {call.name} has a wrong answer")
        if call.outcome == "internal" and not may_fail:
            verdict.broke(Guarantee.FAILED, f"call {call.name} ended with an internal error")


def judge_order(verdict: Verdict, stream: str, numbers: Sequence[int]) -> None:
    """Compare the numbers of a stream's answers, in the order in which they came, with their own order."""
    if list(numbers) != sorted(numbers):
        verdict.broke(Guarantee.DISORDERED, f"{stream} was answered in the order {list(numbers)}")


def judge_leftovers(verdict: Verdict, names: Iterable[str], counters: Mapping[str, int]) -> None:
    """Report keys of items that are still there though all is done, and counters that are not zero."""
    for name in names:
        verdict.broke(Guarantee.LEFT, f"left behind: {name}")
    for name, value in counters.items():
        if value:
            verdict.broke(Guarantee.LEFT, f"counter {name} is {value}")
