"""Three times what a real service can do, in real time: python -m tests.system.soak. Exit 1 where a promise fails.

One process is the service, pinned to the first core; this one is all its callers, pinned to the last. Measured first:
what the service can do (callers that wait). Then come arrivals that wait for nobody, at `--load` times that rate, once
for full routes and once for quality=adaptive; then two sizes in turn; callers that leave; and mixed requests.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import signal
import sys

from benchmarks.machine import describe
from model import checkpoint
from tests.system.e2e.process import Service, service, until_memory_is_moved
from tests.system.soak import journal, leaving, mixed
from tests.system.soak.frames import pairs
from tests.system.soak.load import Tally, arriving, waiting
from tests.system.soak.memory import resident, watched
from tests.system.soak.plan import Plan
from tests.system.soak.promises import MIXED_GROWTH, Promise, of_overload
from tests.system.soak.wire import Connections

#: Callers that measure the capacity: two batches' worth, so that the device never waits for one.
CALLERS = 16


async def overload(plan: Plan, connections: Connections, capacity: float, query: str) -> Tally:
    """Arrivals at `load` times the capacity."""
    requests = pairs(plan.height, plan.width, f"{query}&deadline_ms={plan.deadline_ms}")
    tally = await arriving(connections, requests, plan.load * capacity, plan.seconds)
    took = sorted(tally.answered_after) or [0.0]
    print(
        f"{query}: {tally.asked} arrivals in {tally.seconds:.1f} s, {tally.answered} answered "
        f"({tally.answered / tally.seconds:.1f}/s, {tally.shortened} shortened), refused {dict(tally.reasons)}; "
        f"at the caller p50 {took[len(took) // 2] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms; "
        f"the generator fell behind by at most {tally.lag * 1000:.0f} ms",
        flush=True,
    )
    return tally


async def pressed(plan: Plan, running: Service) -> list[Promise]:
    """Capacity, both overloads, two sizes in turn."""
    connections = Connections(running.http)
    calm = "route=full&deadline_ms=60000"
    one = pairs(plan.height, plan.width, calm)
    await waiting(connections, one, CALLERS, plan.measure / 2)
    measured = await waiting(connections, one, CALLERS, plan.measure)
    capacity = measured.answered / measured.seconds
    print(f"capacity: {capacity:.1f} full routes a second of {plan.height}x{plan.width}", flush=True)
    async with watched(running.process.pid) as memory:
        full = await overload(plan, connections, capacity, "route=full")
        adaptive = await overload(plan, connections, capacity, "route=full&quality=adaptive")
    print(f"memory: {memory.values[0]:.0f} MiB before, at most {memory.most:.0f} MiB", flush=True)
    found = of_overload(plan, capacity, full, adaptive, memory.most - memory.values[0], memory.growth())
    # The same number of pixels lying and standing: two queues, one cost.
    other = pairs(plan.width, plan.height, calm)
    await waiting(connections, other, CALLERS, plan.measure / 2)
    both = await waiting(connections, [r for pair in zip(one, other, strict=True) for r in pair], CALLERS, plan.measure)
    connections.close()
    share = both.answered / both.seconds / capacity
    return [*found, Promise(share >= 0.9, f"two sizes in turn keep {share:.1%} of one size's throughput (>= 90%)")]


async def many(plan: Plan, running: Service) -> list[Promise]:
    """Mixed requests, after a tenth of them for warming up."""
    await mixed.run(running.http, plan.mixed // 5, seed=1)
    before = resident(running.process.pid)
    outcomes = await mixed.run(running.http, plan.mixed, seed=2)
    grew = resident(running.process.pid) - before
    print(f"mixed: {outcomes.left} left, {dict(sorted(outcomes.seen.items()))}", flush=True)
    wrong = outcomes.wrong
    return [
        Promise(not wrong, f"{len(wrong)} of {outcomes.total} mixed requests answered wrongly {wrong[:3] or ''}"),
        Promise(grew < MIXED_GROWTH, f"{outcomes.total} mixed requests grew memory by {grew:.1f} MiB (< 20)"),
    ]


def run(plan: Plan) -> list[Promise]:
    """Every phase; the service's own log has the last word."""
    cores = sorted(os.sched_getaffinity(0))
    settings = {"WARMUP_SIZES": f"{plan.height}x{plan.width}"}
    if plan.weights == "ours":
        settings["WEIGHTS"] = str(checkpoint.DEFAULT)
    print(f"{describe()}; service on core {cores[0]}, callers on core {cores[-1]}", flush=True)
    os.sched_setaffinity(0, cores[:1])  # the process below is born with it
    with service("serve", wait=True, forked=False, **settings) as running:
        os.sched_setaffinity(0, cores[-1:])
        until_memory_is_moved(running)
        try:
            found = asyncio.run(pressed(plan, running))
            found += asyncio.run(many(plan, running))
        finally:
            os.sched_setaffinity(0, cores)
        log = journal.read(running.log)
    found.append(
        Promise(
            log.late == 0,
            f"by the service's clock {log.late} of {log.statuses[200]} answers were late; "
            f"the closest left {log.least_spare_ms:.1f} ms",
        )
    )
    found.append(Promise(not log.errors, f"{len(log.errors)} errors in the log {log.errors[:2] or ''}"))
    gone = asyncio.run(leaving.measure(plan.leavers))
    found.append(Promise(gone.share >= 0.99, f"{gone} (>= 99% within 100 ms)"))
    return found


def main(argv: list[str] | None = None) -> int:
    """0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for item in dataclasses.fields(Plan):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=type(item.default), default=item.default)
    # As an interrupt from the keyboard does: else the service would outlive its callers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    found = run(Plan(**vars(parser.parse_args(argv))))
    print(*found, sep="\n")
    return 0 if all(promise.kept for promise in found) else 1


if __name__ == "__main__":
    sys.exit(main())
