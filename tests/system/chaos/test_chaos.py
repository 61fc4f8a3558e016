"""The short form of `make chaos`: most kinds of fault once, fewer jobs."""

from __future__ import annotations

import pytest

from tests.system.chaos import report, run
from tests.system.chaos.faults import Fault, KillFront, KillWorker, Mixed, Poison, StopWorker
from tests.system.chaos.redis_faults import Crash, CrashAsDeployed, CutConnections, FullMemory, NarrowLink, PowerCut
from tests.unit.distributed.servers import binaries

#: Left to `make chaos`, so that this one is short. A burst over a slow link is tried by `frontend/test_link.py`, too,
#: without the other load, under which some of its calls pass their deadline here (docs/redis.md).
ONLY_AT_LENGTH = (KillWorker, KillFront, StopWorker, Poison, Mixed, Crash, FullMemory, NarrowLink)
KINDS = [kind for kind in run.KINDS if kind not in ONLY_AT_LENGTH]
#: The server on which these are known to go wrong first, or at all.
BEST = {CrashAsDeployed: "redis-7", CutConnections: "redis-7", PowerCut: "redis-7"}
JOBS = 8


def server_of(kind: type[Fault]) -> str:
    """The best for it, or what is installed."""
    names = [BEST.get(kind, "valkey-9"), *run.SERVERS, *binaries()]
    return next(name for name in names if name in binaries())


async def test_no_kind_of_fault_loses_doubles_garbles_silences_or_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(kind, server_of(kind)) for kind in KINDS]
    numbers = dict.fromkeys(KINDS, (JOBS, 1))
    outcomes = await run.rounds(pairs, numbers, seed=1, parallel=4, patience_s=60.0)
    shown = f"{report.table(outcomes)}\n{report.details(outcomes)}"
    print(shown)
    assert all(outcome.sound for outcome in outcomes), shown
    # What cannot be shown here is said, and is never most of it.
    assert sum(bool(outcome.skipped) for outcome in outcomes) <= 4, shown
    assert all(outcome.faults and outcome.verdict.jobs for outcome in outcomes if not outcome.skipped), shown


def test_a_plan_is_never_less_than_what_was_asked_for() -> None:
    numbers = run.plan(run.KINDS, 3, 2000, 300)
    assert 3 * sum(jobs for jobs, _ in numbers.values()) >= 2000
    assert 3 * sum(faults for _, faults in numbers.values()) >= 300
