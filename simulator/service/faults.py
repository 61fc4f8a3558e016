"""The kinds of faults that befall a simulated fleet. Each harms, lasts for a drawn time, and heals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no annotations and no stubs

from service.distributed.broker.keys import Keys
from simulator.history import Cuts
from simulator.service.fleet import Fleet, FrontProcess
from simulator.service.link import QUICK_S
from simulator.service.server import SimulatedServer
from simulator.service.virtual_loop import SimulatedProcess, VirtualLoop


@dataclass
class Stage:
    """What faults can reach. `pauses`: process -> its pauses, from and until."""

    loop: VirtualLoop
    server: SimulatedServer
    fleet: Fleet
    rng: random.Random
    cuts: Cuts
    pauses: dict[SimulatedProcess, list[tuple[float, float]]] = field(default_factory=dict)
    device_faults: int = 0

    def paused_since(self, front: FrontProcess, since: float) -> float:
        """Return for how many seconds a front end stood still since a time."""
        now = self.loop.time()
        return sum(
            max(0.0, min(now, until) - since) for start, until in self.pauses.get(front.process, ()) if until > since
        )

    async def last(self, low: float, high: float) -> None:
        """Let a drawn time pass."""
        await asyncio.sleep(self.rng.uniform(low, high))


Fault = Callable[[Stage], Awaitable[None]]


async def kill_worker(stage: Stage) -> None:
    """SIGKILL to a worker."""
    if stage.fleet.workers:
        stage.fleet.kill_worker(stage.rng.randrange(len(stage.fleet.workers)))


async def kill_front(stage: Stage) -> None:
    """SIGKILL to a front end."""
    if stage.fleet.fronts:
        stage.fleet.kill_front(stage.rng.randrange(len(stage.fleet.fronts)))


async def drain_worker(stage: Stage) -> None:
    """A rollout's SIGTERM to a worker."""
    if stage.fleet.workers:
        stage.fleet.drain_worker(stage.rng.randrange(len(stage.fleet.workers)))


async def pause_process(stage: Stage) -> None:
    """SIGSTOP to any process, for up to three leases."""
    lives: list[Any] = [*stage.fleet.workers, *stage.fleet.fronts]
    if not lives:
        return
    process: SimulatedProcess = stage.rng.choice(lives).process
    if process.is_paused or process.is_dead:
        return
    start, seconds = stage.loop.time(), stage.rng.uniform(0.1, 2.5)
    stage.pauses.setdefault(process, []).append((start, start + seconds))
    process.pause()
    await asyncio.sleep(seconds)
    process.go_on()


async def cut_link(stage: Stage) -> None:
    """A partition between one process and the server: nothing passes, and nobody says so."""
    lives: list[Any] = [*stage.fleet.workers, *stage.fleet.fronts]
    if lives:
        link = stage.rng.choice(lives).link
        link.cut()
        await stage.last(0.1, 7.0)
        link.heal()


async def reset_links(stage: Stage) -> None:
    """Every connection of some processes breaks."""
    lives: list[Any] = [*stage.fleet.workers, *stage.fleet.fronts]
    for life in lives:
        if stage.rng.random() < 0.6:
            life.link.reset()


async def slow_link(stage: Stage) -> None:
    """A link takes up to a third of a second each way."""
    lives: list[Any] = [*stage.fleet.workers, *stage.fleet.fronts]
    if lives:
        link = stage.rng.choice(lives).link
        link.delay_s = (0.001, stage.rng.uniform(0.01, 0.3))
        await stage.last(0.5, 4.0)
        link.delay_s = QUICK_S


async def hang_server(stage: Stage) -> None:
    """SIGSTOP to the server, for longer than a connection may be silent at worst."""
    if stage.server.is_up:
        stage.server.hang()
        await stage.last(0.1, 6.5)
        stage.server.go_on()


async def restart_server(stage: Stage) -> None:
    """The server ends and comes back with all that it kept; it forgets its scripts."""
    if stage.server.is_up:
        stage.server.stop()
        _reset_all(stage)
        await stage.last(0.02, 2.0)
        stage.server.start()


async def fail_over(stage: Stage) -> None:
    """A replica takes over that had not heard the last writes."""
    if stage.server.is_up:
        state, lag = stage.server.engine.store.copy(), stage.rng.uniform(0.01, stage.cuts.unsynced_s or 0.01)
        await asyncio.sleep(lag)
        if stage.server.is_up:
            stage.server.stop()
            _reset_all(stage)
            stage.cuts.times.append(stage.loop.time())
            await stage.last(0.05, 1.5)
            stage.server.start(state)


async def jump_clock(stage: Stage) -> None:
    """The server's wall clock jumps, forwards or back."""
    stage.server.offset_ms += stage.rng.choice((-3000, -1000, -200, 200, 1000, 3000))


async def break_device(stage: Stage) -> None:
    """A device's context breaks for good; its worker is to leave, and another takes its place."""
    if stage.fleet.workers:
        stage.device_faults += 1
        stage.rng.choice(stage.fleet.workers).device.harm.is_broken = True


async def fill_device(stage: Stage) -> None:
    """A neighbour takes a device's memory for a few runs."""
    if stage.fleet.workers:
        stage.device_faults += 1
        stage.rng.choice(stage.fleet.workers).device.harm.out_of_memory_runs += stage.rng.randint(1, 3)


async def chill_devices(stage: Stage) -> None:
    """The first run of a size takes a second from now on."""
    for life in stage.fleet.workers:
        life.device.harm.cold_s = stage.rng.uniform(0.2, 1.0)


async def slow_devices(stage: Stage) -> None:
    """Every run takes longer than a lease, for some seconds: leases are to be renewed meanwhile."""
    for life in stage.fleet.workers:
        life.device.harm.slow_s = 1.5
    await stage.last(12.0, 15.0)
    for life in stage.fleet.workers:
        life.device.harm.slow_s = 0.0


async def speak_of_tomorrow(stage: Stage) -> None:
    """The next release is on the queue, too: it writes fields and entries that this one does not know."""
    keys, run = Keys(stage.fleet.settings.redis_queue), stage.server.engine.execute
    name = f"tomorrow-{stage.rng.getrandbits(16)}"
    expiry = stage.server.now_ms() + 1500
    about = {"v": 9, "model": {"version": "next-1", "moons": 3}, "dialect": "9:next", "stars": [1]}
    run(("ZADD", keys.workers, expiry, name))
    run(("SET", keys.info(name), msgpack.packb(about), "PX", 1500))
    run(("XADD", keys.events, "*", "planet", "mars"))
    run(("XADD", keys.cancels, "*", "planet", "mars"))
    run(("HSET", keys.load, "moons", 0))


KINDS: dict[str, Fault] = {
    "worker killed": kill_worker,
    "front end killed": kill_front,
    "worker drained": drain_worker,
    "process paused": pause_process,
    "link cut": cut_link,
    "links reset": reset_links,
    "link slow": slow_link,
    "server hangs": hang_server,
    "server restarts": restart_server,
    "failover": fail_over,
    "clock jumps": jump_clock,
    "device breaks": break_device,
    "device full": fill_device,
    "first runs slow": chill_devices,
    "devices slow": slow_devices,
    "next release": speak_of_tomorrow,
}


def _reset_all(stage: Stage) -> None:
    lives: list[Any] = [*stage.fleet.workers, *stage.fleet.fronts]
    for life in lives:
        life.link.reset()
