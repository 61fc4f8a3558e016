"""Short forms of `make soak`: what must hold however busy the machine is. Figures are printed (`pytest -rP`)."""

from __future__ import annotations

import asyncio
import time

from tests.system.e2e.process import service, until_memory_is_moved
from tests.system.soak import journal, leaving, mixed
from tests.system.soak.frames import pairs
from tests.system.soak.load import arriving, waiting
from tests.system.soak.memory import resident, watched
from tests.system.soak.wire import Connections

#: MiB that resident memory may grow.
GROWTH = 20.0


async def test_at_three_times_its_capacity_nothing_is_late_and_every_refusal_says_how_long_to_wait() -> None:
    with service(MAX_QUEUE_ITEMS="64") as running:
        connections = Connections(running.http)
        calm = await waiting(connections, pairs(64, 96, "route=full&deadline_ms=60000"), callers=8, seconds=2)
        rate = 3 * calm.answered / calm.seconds
        until_memory_is_moved(running)  # whole large pages, of which the process may have used a part
        async with watched(running.process.pid) as memory:
            full = await arriving(connections, pairs(64, 96, "route=full&deadline_ms=400"), rate, 3)
            adaptive = await arriving(connections, pairs(64, 96, "quality=adaptive&deadline_ms=400"), rate, 3)
        connections.close()
        answered = calm.answered + full.answered + adaptive.answered
        # A line is written when the last byte has left, so that the client may be here first.
        end = time.monotonic() + 60
        while (log := journal.read(running.log)).statuses[200] < answered and time.monotonic() < end:
            await asyncio.sleep(0.05)
    grew = memory.most - memory.values[0]
    print(
        f"capacity {rate / 3:.0f}/s; of {full.asked} arrivals {full.answered} answered with full routes, "
        f"of {adaptive.asked} {adaptive.answered} with adaptive ones; refused {dict(full.reasons + adaptive.reasons)}; "
        f"the closest answer left {log.least_spare_ms:.1f} ms; memory grew by {grew:.1f} MiB"
    )
    refused = 0
    for tally in (full, adaptive):
        assert set(tally.statuses) <= {200, 429, 503, 504}
        assert sum(tally.statuses.values()) == tally.asked, "a request got no reply"
        assert tally.without_wait == 0
        refused += sum(tally.statuses.values()) - tally.answered
    assert refused > 0, "this was no overload"
    assert log.late == 0
    assert log.statuses[200] == answered
    assert log.errors == []
    assert grew < GROWTH


async def test_mixed_requests_are_answered_rightly_and_leave_no_memory_behind() -> None:
    with service() as running:
        await mixed.run(running.http, 500, seed=1)
        until_memory_is_moved(running)
        before = resident(running.process.pid)
        outcomes = await mixed.run(running.http, 1500, seed=2)
        grew = resident(running.process.pid) - before
        log = journal.read(running.log)
    print(f"{outcomes.total} mixed requests, {outcomes.left} broken off, grew memory by {grew:.1f} MiB")
    assert outcomes.wrong == []
    assert outcomes.total == 1500
    assert log.errors == []
    assert grew < GROWTH


async def test_callers_who_leave_the_queue_are_dropped_before_the_device() -> None:
    gone = await leaving.measure(100)
    print(gone)
    assert gone.ran <= 0.01 * gone.left
    assert len(gone.after) == gone.left
