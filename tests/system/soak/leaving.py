"""Callers that leave while they wait: how many are dropped before the device, and how soon after they left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.system.e2e.joined import joined
from tests.system.soak.frames import raw
from tests.system.soak.wire import Connections
from tests.unit.engine.tiny import PATIENCE, Rigged

#: What is promised, seconds.
SOON = 0.1


@dataclass(frozen=True, slots=True)
class Gone:
    """Of `left` callers, `ran` reached the device all the same; the others were dropped after so many seconds."""

    left: int
    ran: int
    after: tuple[float, ...]

    @property
    def share(self) -> float:
        """How many were dropped within SOON of leaving and never run."""
        return sum(seconds <= SOON for seconds in self.after) / self.left

    def __str__(self) -> str:
        worst = max(self.after, default=0.0) * 1000
        return (
            f"{self.left} callers left the queue: {self.ran} were run, "
            f"{self.share:.1%} dropped within {SOON * 1000:.0f} ms, the slowest after {worst:.0f} ms"
        )


async def measure(callers: int) -> Gone:
    """Everything in one process, so that what reached the device is known; the first request keeps the device busy."""
    device = Rigged()
    async with joined(device, max_queue_items=callers + 1) as service:
        inflight = service.parts.metrics.registry.get_sample_value
        connections = Connections(service.http)

        def waiting() -> int:
            return round(inflight("dmvfn_inflight_requests") or 0)

        device.hold()
        stays = asyncio.ensure_future(connections.ask(raw(0, 32, 48, "", X_Request_Id="stays")))
        await asyncio.to_thread(device.entered.wait)
        leavers = [await connections.take() for _ in range(callers)]
        for leaver in leavers:
            leaver.send(raw(1, 32, 48, "", X_Request_Id="leaves"))
        while waiting() < callers + 1:
            await asyncio.sleep(0.001)
        after: list[float] = []
        clock = asyncio.get_running_loop().time
        left: list[float] = []

        async def watch() -> None:
            # Those who left first are dropped first; the rest would only swap their times.
            while len(after) < callers:
                gone = callers + 1 - waiting()
                after.extend(clock() - moment for moment in left[len(after) : gone])
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        for leaver in leavers:
            leaver.abort()
            left.append(clock())
            await asyncio.sleep(0.002)
        await asyncio.wait({watching}, timeout=PATIENCE)
        watching.cancel()
        device.release()
        assert (await stays).status == 200
        connections.close()
    return Gone(callers, device.ran.count("leaves"), tuple(after))
