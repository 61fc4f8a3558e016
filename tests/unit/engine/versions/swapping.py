"""Versions that are tiny networks, each with weights of its own, from memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable

from prometheus_client import CollectorRegistry

from model import checkpoint
from model.dmvfn.network import DMVFN
from service.core.errors import NotFound
from service.engine.batcher import Batcher
from service.engine.device import Device
from service.engine.predictor import Predictor
from service.engine.versions.source import PreparedVersion
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import PATIENCE, PATIENT_MS, network


def versioned(name: str, seed: int) -> Predictor:
    """Return a tiny predictor whose weights are drawn from `seed` and called `name`."""
    return Predictor(_named(name, seed), device="cpu", threads=1, sha256=f"{seed:064x}")


def _named(name: str, seed: int) -> DMVFN:
    net = network(seed)
    net.metadata = checkpoint.Metadata(version=name, config=net.config)
    return net


class MemorySource:
    """Versions by name and seed. `wrap` may make something else of a device; `gate` holds reading until it is set."""

    is_named = True

    def __init__(self, **seeds: int) -> None:
        self.seeds = seeds
        self.wrap: Callable[[Predictor], Device] = lambda device: device
        self.gate = threading.Event()
        self.gate.set()

    def names(self) -> list[str]:
        return sorted(self.seeds)

    def prepare(self, version: str | None = None) -> PreparedVersion:
        assert self.gate.wait(PATIENCE)
        name = self.names()[-1] if version is None else version
        if name not in self.seeds:
            raise NotFound(f"there is no version {name!r}")
        seed = self.seeds[name]
        return PreparedVersion(name, f"{seed:064x}", lambda: self.wrap(versioned(name, seed)))


@contextlib.asynccontextmanager
async def swapping(
    source: MemorySource, first: Device | None = None, metrics: Metrics | None = None, **settings: object
) -> AsyncIterator[Batcher]:
    """A running batcher that began with version v0 of the source, and can load the others."""
    devices: list[Device] = [first or versioned("v0", source.seeds["v0"])]
    batcher = Batcher(
        devices.pop,  # lets go of it
        Settings(**{"warmup_sizes": (), "default_deadline_ms": PATIENT_MS, **settings}),  # type: ignore[arg-type]
        metrics or Metrics(CollectorRegistry()),
        source=source,
    )
    await batcher.start()
    del first
    try:
        yield batcher
    finally:
        await batcher.close()
