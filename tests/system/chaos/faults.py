"""The kinds of faults that befall processes and devices, one class each, and what every kind of fault is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from tests.system.chaos import places
from tests.system.chaos.processes import BREAKER, GLUTTON, POISON, Mark, picture
from tests.system.chaos.stage import LEASE_S, Stage
from tests.unit.distributed.servers import Server

#: Numbers of the jobs that are to fail; even, so that they have two frames.
GUILTY_FROM = 1_000_000


class Fault:
    """A kind of fault: `inject` it, `heal` it a moment later, `again` after another moment.

    `share`: of a hundred faults; `workers`, `fronts`, `settings`: the fleet it befalls; `unsynced_s`: what Redis' disk
    does not promise, seconds.
    """

    name: ClassVar[str] = ""
    share: ClassVar[int] = 1
    lasts_s: ClassVar[float] = 0.3
    pause_s: ClassVar[float] = 0.2
    workers: ClassVar[int] = 2
    fronts: ClassVar[int] = 2
    settings: ClassVar[dict[str, Any]] = {}
    unsynced_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self.note = ""  #: what the report says beside the numbers
        self.injected = 0

    def place(self, program: Path) -> tuple[Server, str]:
        """A server, not yet started, and the fleet's URL of it."""
        server = places.plain(program)
        return server, server.url

    def unfit(self, program: Path) -> str:
        """Why this machine or server cannot show it; "" if it can."""
        return ""

    async def inject(self, stage: Stage) -> None:
        """Does the harm."""
        raise NotImplementedError

    async def heal(self, stage: Stage) -> None:
        """Ends it, where it does not end by itself."""


class KillWorker(Fault):
    name = "worker killed"
    share = 14

    async def inject(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.fleet.kill_worker)


class KillFront(Fault):
    name = "front end killed"
    share = 9

    async def inject(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.fleet.kill_front)


class StopWorker(Fault):
    name = "worker stopped beyond its lease"
    share = 6
    lasts_s = 1.2
    workers = 3

    async def inject(self, stage: Stage) -> None:
        stage.fleet.stop_worker(LEASE_S * stage.rng.uniform(1.2, 1.4))


class Mixed(Fault):
    name = "kills and stops, all at once"
    share = 6
    workers = 3

    async def inject(self, stage: Stage) -> None:
        harm = stage.rng.random()
        if harm < 0.5:
            await asyncio.to_thread(stage.fleet.kill_worker)
        elif harm < 0.8:
            await asyncio.to_thread(stage.fleet.kill_front)
        else:
            stage.fleet.stop_worker(LEASE_S * 1.3)


class GuiltyJob(Fault):
    """A job whose frames harm each device they reach; it is to end as a dead letter, and nothing else with it."""

    share = 3
    lasts_s = 0.5
    settings: ClassVar[dict[str, Any]] = {"max_deliveries": 3}
    mark: ClassVar[Mark]

    async def inject(self, stage: Stage) -> None:
        await stage.submit(GUILTY_FROM + 2 * self.injected, self.mark)


class Poison(GuiltyJob):
    name = "job that kills its worker"
    mark = POISON


class Breaker(GuiltyJob):
    name = "job that breaks the device"
    mark = BREAKER


class Glutton(GuiltyJob):
    name = "job too large for the device"
    mark = GLUTTON


class LostDevice(Fault):
    name = "device lost (sticky error)"
    share = 6
    what: ClassVar[str] = "sticky"

    async def inject(self, stage: Stage) -> None:
        stage.fleet.order(self.what)


class LostDevices(LostDevice):
    """Every device at once: what one hands back runs alone on the next, which is lost, too. It is no breaker."""

    name = "all devices lost at once"
    share = 3
    lasts_s = 1.0
    workers = 3

    async def inject(self, stage: Stage) -> None:
        stage.fleet.order(self.what, of_all=True)


class ZombieDevice(LostDevice):
    name = "device that fails every run"
    share = 4
    lasts_s = 1.0
    what = "zombie"


class OutOfMemory(Fault):
    """A neighbour takes the device's memory for a few runs. The jobs are not at fault: none may fail."""

    name = "device out of memory for a while"
    share = 6

    async def inject(self, stage: Stage) -> None:
        # The number makes it a new order to a worker that has carried one out.
        stage.fleet.order(f"oom 3 {self.injected}")


class ColdSize(Fault):
    """The first run of a size takes seconds, all others milliseconds: an idle device then refuses none for it."""

    name = "first run of a size freezes"
    share = 4
    lasts_s = 0.0
    workers, fronts = 1, 1
    cold_s: ClassVar[float] = 4.0
    deadline_s: ClassVar[float] = 2.0  #: so long that a busy machine uses up little of it on the way
    calls: ClassVar[int] = 6

    async def inject(self, stage: Stage) -> None:
        stage.fleet.order(f"cold {self.cold_s}", of_all=True)
        height = 64 + 16 * self.injected
        pair = picture(2_500_000 + self.injected, 2, height, 112)
        await stage.call(0, 60.0, pair=pair)
        for _ in range(self.calls):
            answer = await stage.call(0, self.deadline_s, pair=pair)
            # A late answer is the machine's; to be refused without a try is not.
            if answer is not None and (answer.status_code in (429, 503) or '"unmeetable"' in answer.text):
                stage.refused.append(f"{height}x112 after its first run: {answer.text}")


PROCESSES: tuple[type[Fault], ...] = (KillWorker, KillFront, StopWorker, Mixed, Poison)
DEVICES: tuple[type[Fault], ...] = (LostDevice, LostDevices, ZombieDevice, OutOfMemory, Breaker, Glutton, ColdSize)
