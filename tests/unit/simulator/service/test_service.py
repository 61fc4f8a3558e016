"""The service in the simulator: seeds that are sound, seeds that once were not, and faults that must be caught."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest

from simulator.service.planted import FAULTS, PlantedFault, caught, planted
from simulator.service.run import Outcome, Plan, Simulation
from simulator.service.virtual_loop import EndlessLoop, VirtualLoop
from simulator.service.virtual_threads import Threads

#: Seeds of the default run, with less asked for; `make sim` plays many more, whole.
SEEDS = range(1, 13)
#: Faults that the default run plants; `make planted` plants all.
DEFAULT = (
    "claim: turns do not move on",
    "settle: frames of a call withdrawn before it came stay",  # was a real one
    "engine: a caller who leaves is not withdrawn",
)


@functools.cache
def played(seed: int) -> tuple[Outcome, list[str]]:
    return played_anew(seed)


def played_anew(seed: int) -> tuple[Outcome, list[str]]:
    lines: list[str] = []
    return Simulation(Plan.draw(seed).shorter(), lines.append).run(), lines


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_is_kept_whatever_befalls_the_fleet(seed: int) -> None:
    outcome, _ = played(seed)
    assert outcome.verdict.breaches == []
    assert outcome.calls["ok"] > 0


def test_a_seed_gives_the_same_trace_each_time_and_another_seed_another() -> None:
    (one, lines), (again, lines_again) = played(3), played_anew(3)
    assert lines == lines_again
    assert one.digest == again.digest != played(4)[0].digest
    assert any(" fault: " in line for line in lines)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in DEFAULT], ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(fault: PlantedFault) -> None:
    assert not caught(fault).verdict.sound


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_planted_fault_fits_the_code_as_it_is(fault: PlantedFault) -> None:
    with planted(fault):
        pass


def test_the_run_leaves_the_real_clock_and_the_real_loop_alone() -> None:
    before = time.monotonic
    played_anew(2)
    assert time.monotonic is before
    assert asyncio.run(asyncio.sleep(0, "real")) == "real"


def test_virtual_time_jumps_and_a_loop_that_waits_for_nothing_says_so() -> None:
    loop = VirtualLoop(start=0.0)
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == 3600
    with pytest.raises(EndlessLoop):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_a_thread_waits_on_virtual_time() -> None:
    loop = VirtualLoop(start=0.0)
    threads = Threads(loop)
    event = threads.Event()

    async def main() -> tuple[bool, float, bool]:
        too_long = await asyncio.to_thread(event.wait, 5.0)
        waited = loop.time()
        loop.call_later(1.0, event.set)
        return too_long, waited, await asyncio.to_thread(event.wait, 5.0)

    assert loop.run_until_complete(main()) == (False, 5.0, True)
    assert loop.time() == 6.0
    loop.close()
