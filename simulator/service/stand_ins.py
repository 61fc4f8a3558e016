"""Puts the simulation's clock, chance, threads and connections where the service reads the real ones.

What takes its clock as an argument is handed one; this is for the rest: `time.monotonic()` called in place, ids from
the system's chance, the lease thread, and the two functions that open connections.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from service.distributed.frontend import queue_client
from service.distributed.worker import leases, worker
from service.engine import device_thread
from service.settings import Settings
from simulator.service.clients import SimulatedClient, SimulatedSyncClient
from simulator.service.link import Link
from simulator.service.virtual_loop import PROCESS, VirtualLoop
from simulator.service.virtual_threads import Threads

#: Seconds since 1970 at the loop's time 0, as `time.time` tells.
EPOCH_S = 1_700_000_000.0


@contextlib.contextmanager
def installed(loop: VirtualLoop, threads: Threads, links: dict[Any, Link], seed: int) -> Iterator[None]:
    """Let all that runs in this block see `loop`'s time, chance drawn from `seed`, and the links of its processes."""
    chance = random.Random(seed)
    seeded = random.Random

    def make_random(seed: Any = None) -> random.Random:
        return seeded(chance.getrandbits(64) if seed is None else seed)

    def connect(settings: Settings, connections: int = 32) -> SimulatedClient:
        return SimulatedClient(loop, links[PROCESS.get()], connections)

    def connect_sync(settings: Settings) -> SimulatedSyncClient:
        return SimulatedSyncClient(loop, links[PROCESS.get()])

    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (time, "monotonic", loop.time),
            (time, "perf_counter", loop.time),
            (time, "time", lambda: EPOCH_S + loop.time()),
            (random, "Random", make_random),
            (os, "urandom", chance.randbytes),
            (queue_client, "connect", connect),
            (worker, "connect", connect),
            (worker, "connect_sync", connect_sync),
            (leases, "threading", threads),
            (device_thread, "threading", threads),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, before)
        yield
