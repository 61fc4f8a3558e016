"""One round: jobs and calls come in while one kind of fault befalls the fleet; then everything is counted."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from service.cli import jobs as cli
from simulator.history import Verdict
from tests.system.chaos.faults import Fault
from tests.system.chaos.stage import Stage

#: Numbers of waiting calls begin here.
CALLS_FROM = 2_000_000
#: Seconds in which a front end is ready again once the noise has ended.
RECOVERY_S = 12.0
#: Calls that an idle fleet is asked of each front end when the noise has ended, and the seconds that each may take: a
#: front end that is silent answers none, and a machine with ten times the work it can do is slow.
PROBES, PROBE_S = 3, 20.0
#: Between two calls of the caller who waits for each, seconds.
CALL_EVERY_S = 0.1


@dataclass(slots=True)
class Outcome:
    """A round's numbers; `skipped` says why there was none."""

    kind: str
    server: str
    faults: int = 0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    silent: int = 0
    refused: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    note: str = ""
    skipped: str = ""

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        return self.verdict.sound and not self.silent and not self.refused


async def play(
    fault: Fault, server: str, program: Path, jobs: int, faults: int, seed: int, patience_s: float
) -> Outcome:
    """Plays one round on its own server and fleet; `patience_s`: how long jobs may take to end afterwards."""
    outcome = Outcome(fault.name, server)
    began = time.monotonic()
    outcome.skipped = await asyncio.to_thread(fault.unfit, program)
    if outcome.skipped:
        return outcome
    place, url = await asyncio.to_thread(fault.place, program)
    stage = Stage(place, url, dict(fault.settings), seed)
    stage.history.cuts.unsynced_s = fault.unsynced_s
    try:
        await stage.start(fault.workers, fault.fronts)
        await _noise(fault, stage, jobs, faults)
        await _count(outcome, stage, patience_s)
    except Exception as error:
        outcome.refused.append(f"the round itself failed: {type(error).__name__}: {error}")
        print(f"{fault.name}: {error!r}", file=sys.stderr)
    finally:
        await stage.close()
    outcome.refused += stage.refused
    outcome.calls = dict(stage.history.calls)
    outcome.faults, outcome.note = fault.injected, fault.note
    outcome.seconds = time.monotonic() - began
    return outcome


async def _noise(fault: Fault, stage: Stage, jobs: int, faults: int) -> None:
    """Jobs come in, evenly, for as long as the faults do; beside them one caller waits for each of its calls."""
    over = asyncio.Event()

    async def submit() -> None:
        pause = max(0.02, min(0.4, faults * (fault.lasts_s + fault.pause_s) / jobs))
        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(stage.submit(number))
                await asyncio.sleep(pause)

    async def call() -> None:
        number = CALLS_FROM
        while not over.is_set():
            number += 1
            await stage.call(number, 5.0)
            await asyncio.sleep(CALL_EVERY_S)

    async def tend() -> None:
        while not over.is_set():
            await asyncio.to_thread(stage.fleet.tend)
            await asyncio.sleep(0.05)

    beside = [asyncio.create_task(call()), asyncio.create_task(tend())]
    try:
        submitting = asyncio.create_task(submit())
        await asyncio.sleep(0.3)
        for _ in range(faults):
            await fault.inject(stage)
            fault.injected += 1
            await asyncio.sleep(fault.lasts_s)
            await fault.heal(stage)
            await asyncio.sleep(fault.pause_s * stage.rng.uniform(0.5, 1.5))
        await submitting
    finally:
        over.set()
        await asyncio.gather(*beside)


async def _count(outcome: Outcome, stage: Stage, patience_s: float) -> None:
    """The noise has ended: jobs end, front ends speak, an idle fleet refuses nothing; then the history is checked."""
    stage.fleet.wake_all()
    unfinished = await stage.history.unfinished(patience_s, stage.fleet.tend)
    for client in stage.clients:
        if not await stage.ready(client, RECOVERY_S):
            outcome.silent += 1
            outcome.verdict.notes.append("a front end is not ready long after the noise")
            continue
        for number in range(PROBES):
            answer = await stage.call(CALLS_FROM + 4 * (10**5 + number), PROBE_S, client)
            if answer is None or (answer.status_code == 504 and "unmeetable" not in answer.text):
                outcome.silent += 1
                outcome.verdict.notes.append(f"a front end answers {answer.text if answer else 'nothing'}")
                break
            if answer.status_code != 200:
                outcome.refused.append(f"an idle fleet: {answer.text}")
    beating = await _beating(stage)
    if beating < len(stage.clients):
        outcome.silent += len(stage.clients) - beating
        outcome.verdict.notes.append(f"{beating} of {len(stage.clients)} front ends give a sign of life")
    silence = outcome.verdict.notes
    outcome.verdict = await stage.history.check(unfinished)
    outcome.verdict.notes += silence
    if unfinished:  # what is not done is counted as lost; of course it is still there
        return
    await asyncio.to_thread(cli.main, ["purge", "--all", "--quiet"], stage.settings)
    await stage.history.leftovers(outcome.verdict)
    statuses = await asyncio.to_thread(stage.fleet.drain)
    # 3: its device was lost, as ordered.
    outcome.verdict.notes += [f"a drained worker exited with {status}" for status in statuses if status not in (0, 3)]


async def _beating(stage: Stage) -> int:
    """How many front ends give a sign of life, once all do or RECOVERY_S have passed."""
    end = time.monotonic() + RECOVERY_S
    while (beating := await stage.history.beating()) < len(stage.clients) and time.monotonic() < end:
        await asyncio.sleep(0.2)
    return beating
