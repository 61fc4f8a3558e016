"""The simulated processes of a fleet: front ends and workers of the service's own parts, to be killed and stopped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from service.distributed.frontend.backend import FrontendEngine
from service.distributed.worker.worker import Worker
from service.engine.batcher import Batcher
from service.settings import Settings
from service.telemetry.metrics import Metrics
from simulator.service.device import MadeUpDevice
from simulator.service.link import Link
from simulator.service.server import SimulatedServer
from simulator.service.virtual_loop import SimulatedProcess, VirtualLoop
from simulator.service.virtual_threads import Threads

T = TypeVar("T")

#: Sizes that workers warm up; others are cold at first. Small: pixels cost real time, and the device's is made up.
WARM_SIZES = ((16, 16),)
#: Seconds from a process's death to its successor's start.
RESTART_S = 0.3
#: Seconds from a worker's own end to the start of its successor.
NOTICED_S = 0.1


@dataclass(eq=False)
class FrontProcess:
    """One life of a front end."""

    process: SimulatedProcess
    link: Link
    engine: FrontendEngine
    death: asyncio.Future[None]

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in this process, as for a request. Raises ConnectionResetError where the process dies."""
        if self.process.is_dead:
            work.close()
            raise ConnectionResetError
        task = self.process.run(work)
        waits: set[asyncio.Future[Any]] = {task, self.death}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():  # its caller leaves
                task.cancel()
        if self.process.is_dead or task.cancelled():
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise ConnectionResetError
        return task.result()


@dataclass(eq=False)
class WorkerProcess:
    """One life of a worker."""

    process: SimulatedProcess
    link: Link
    device: MadeUpDevice
    ended: asyncio.Task[None]
    worker: Worker | None = None


@dataclass(eq=False)
class Fleet:
    """Front ends and workers. A killed one is replaced a moment later, as an orchestrator would."""

    loop: VirtualLoop
    threads: Threads
    server: SimulatedServer
    settings: Settings
    rng: random.Random
    links: dict[Any, Link]
    fronts: list[FrontProcess] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)
    lives: int = 0
    device_rows: int = 4
    slowness: float = 1.0

    def start_front(self) -> FrontProcess:
        """Start one more front end; it is ready a little later."""
        process, link = self._process("front")
        metrics = Metrics(CollectorRegistry())
        engine = process.context.run(lambda: FrontendEngine(self.settings, metrics, self.loop.time))
        engine._front._rng = random.Random(self.rng.getrandbits(64))
        front = FrontProcess(process, link, engine, self.loop.create_future())

        def died() -> None:
            if not front.death.done():
                front.death.set_result(None)

        process.on_death["front"] = died
        process.run(engine.start()).add_done_callback(lambda task: task.cancelled() or task.exception())
        self.fronts.append(front)
        return front

    def start_worker(self) -> WorkerProcess:
        """Start one more worker; it announces itself a little later."""
        process, link = self._process("worker")
        chance = random.Random(self.rng.getrandbits(64))
        device = MadeUpDevice(self.threads.sleep, self.loop.time, chance, self.device_rows)
        device.harm.slowness = self.slowness
        life = WorkerProcess(process, link, device, None)  # type: ignore[arg-type]  # set in the next line
        life.ended = process.run(self._work(life))
        life.ended.add_done_callback(lambda _: self.loop.call_later(NOTICED_S, self._replace, life))
        self.workers.append(life)
        return life

    def kill_front(self, index: int) -> None:
        """Kill one, and start its successor."""
        self.fronts.pop(index).process.kill()
        self.loop.call_later(RESTART_S, self.start_front, context=self.server.context)

    def kill_worker(self, index: int) -> None:
        """Kill one, and start its successor."""
        self.workers.pop(index).process.kill()
        self.loop.call_later(RESTART_S, self.start_worker, context=self.server.context)

    def drain_worker(self, index: int) -> None:
        """Tell one to stop, as a rollout does, and start its successor."""
        life = self.workers.pop(index)
        if life.worker is not None:
            life.process.context.copy().run(life.worker.stop)
        life.ended.add_done_callback(lambda _: life.process.kill())
        self.start_worker()

    def end(self) -> None:
        """End all processes, for good."""
        lives: list[FrontProcess | WorkerProcess] = [*self.fronts, *self.workers]
        self.fronts.clear()
        self.workers.clear()
        for life in lives:
            life.process.kill()

    def _replace(self, life: WorkerProcess) -> None:
        """Start the successor of a worker that ended by itself, as one does whose device was lost."""
        if life in self.workers:
            self.workers.remove(life)
            life.process.kill()
            self.start_worker()

    async def _work(self, life: WorkerProcess) -> None:
        metrics = Metrics(CollectorRegistry())
        engine = Batcher(lambda: life.device, self.settings, metrics, clock=self.loop.time)
        engine.scheduling._wakeups = self.threads.queue()  # type: ignore[assignment]  # what it needs of a SimpleQueue
        await engine.start()
        name = life.process.name
        life.worker = Worker(self.settings, engine, metrics, name=name, device=engine.scheduling, clock=self.loop.time)
        await life.worker.run()
        await engine.close()

    def _process(self, kind: str) -> tuple[SimulatedProcess, Link]:
        self.lives += 1
        process = SimulatedProcess(f"{kind}-{self.lives}", self.loop)
        link = self.links[process] = Link(self.loop, self.server, random.Random(self.rng.getrandbits(64)), process)
        return process, link
