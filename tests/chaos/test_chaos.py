"""The short form of `make chaos`: each kind of fault at least once, fewer jobs."""

from __future__ import annotations

import pytest

from tests.chaos import report, run
from tests.chaos.faults import Fault, Mixed
from tests.jobs.servers import binaries

#: In turns, so that each server suffers some kinds at every run.
KINDS = [kind for kind in run.KINDS if kind.name not in ("worker killed", "front end killed")]


async def test_no_kind_of_fault_loses_doubles_garbles_silences_or_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    server = next(name for name in (*run.SERVERS, *binaries()) if name in binaries())
    outcomes = await run.rounds(
        KINDS, [server], jobs=8 * len(KINDS), faults=1, seed=1, parallel=4, patience_s=15.0
    )
    shown = f"{report.table(outcomes)}\n{report.details(outcomes)}"
    print(shown)
    assert all(outcome.sound for outcome in outcomes), shown
    # What cannot be shown here is said, and is never most of it.
    assert sum(bool(outcome.skipped) for outcome in outcomes) <= 3, shown
    assert all(outcome.faults and outcome.verdict.jobs for outcome in outcomes if not outcome.skipped), shown


class Nothing(Fault):
    """No fault at all."""

    name = "no fault"

    async def inject(self, stage: object) -> None:
        """Does nothing."""


def test_a_plan_is_never_less_than_what_was_asked_for() -> None:
    numbers = run.plan(run.KINDS, 3, 2000, 300)
    assert 3 * sum(jobs for jobs, _ in numbers.values()) >= 2000
    assert 3 * sum(faults for _, faults in numbers.values()) >= 300
    assert Mixed in numbers
