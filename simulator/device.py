"""How long a simulated device takes: the measured table, joined by the service's own cost formula, and its spread.

An accelerator is *assumed* by giving each pass a fixed cost that its rows share; what was measured is a CPU.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from model import flops
from model.dmvfn.config import ModelConfig
from service.core.bucket import Bucket
from service.core.types import BLOCKS, Options, Route, RoutePolicy
from service.engine.scheduling.cost_model import CostModel, Load, MeasuredRun
from simulator.calibration.table import Table

WHOLE: Route = (True,) * BLOCKS
#: Sampled routes are drawn once and used again and again.
DRAWN = 512


@dataclass(frozen=True)
class Device:
    """One device's speed. `pass_seconds`: assumed cost of a pass beyond what was measured; `rows` share a pass."""

    table: Table
    pass_seconds: float = 0.0
    rows: int = 1

    def accelerator(self, pass_seconds: float) -> Device:
        """Return a device with the same work a frame and an assumed cost a pass, which all rows of a batch share."""
        return dataclasses.replace(self, pass_seconds=pass_seconds, rows=sys.maxsize)

    @cached_property
    def truth(self) -> CostModel:
        """Fit the cost model to all measured runs."""
        model = _blank()
        model.fit([row.to_measured_run() for row in self.table.runs])
        return model

    def residual(self) -> float:
        """Return the largest relative error of the fit over all measured runs."""
        errors = (
            self.truth.seconds(m.bucket, m.load) / m.seconds - 1 for m in (r.to_measured_run() for r in self.table.runs)
        )
        return max(map(abs, errors))

    def seconds(self, bucket: Bucket, load: Load, chance: random.Random | None = None) -> float:
        """Return the seconds of a batch; with `chance`, of one run of many, spread as the measured ones."""
        typical = self.truth.seconds(bucket, load) + self.pass_seconds * load.passes
        return typical if chance is None else typical * chance.choice(self.table.spread)

    def routing_seconds(self, bucket: Bucket, count: int) -> float:
        """Return the seconds of choosing the routes of `count` pairs before they line up."""
        # Nine blocks and the router are ten parts of a pass.
        return self.table.routing[f"{bucket.height}x{bucket.width}"] * count + self.pass_seconds / (BLOCKS + 1)

    def warm_cost_model(self, sizes: Sequence[tuple[int, int]]) -> CostModel:
        """Return a worker's cost model after warm-up: fitted to the rows that the service measures then, at `sizes`."""
        model = _blank()
        one = tuple(i == 0 for i in range(BLOCKS))
        rows = []
        for height, width in sizes:
            bucket = Bucket.of(height, width)
            several = 4 if self.rows > 1 else 1
            for routes, routings in (([one], 0), ([WHOLE], 0), ([self.auto], 1), ([WHOLE] * several, 0)):
                load = Load.of(bucket, routes, 1, routings)
                rows.append(MeasuredRun(bucket, load, self.seconds(bucket, load)))
        model.fit(rows)
        return model

    def capacity(self, bucket: Bucket, options: Options, batch: int) -> float:
        """Return requests a second of one kind in batches of `batch` (of one, where rows share nothing)."""
        rows = min(batch, self.rows)
        routes = [self.route(options, k) for k in range(DRAWN)]
        one = Load.of(bucket, routes, 0, 0 if options.route.policy is RoutePolicy.FULL else DRAWN)
        passes = self.pass_seconds + self.truth.passes
        return 1 / (self.truth.seconds(bucket, one) / DRAWN + passes / rows)

    @cached_property
    def auto(self) -> Route:
        """Return the route that the shipped router chooses."""
        return tuple(p > 0.5 for p in self.table.probabilities)

    def route(self, options: Options, number: int) -> Route:
        """Return the route of the `number`-th request."""
        if options.route.policy is RoutePolicy.FULL:
            return WHOLE
        return self._sampled_routes[number % DRAWN] if options.route.policy is RoutePolicy.SAMPLE else self.auto

    @cached_property
    def _sampled_routes(self) -> list[Route]:
        chance = random.Random(0)
        routes = [tuple(chance.random() < p for p in self.table.probabilities) for _ in range(DRAWN)]
        return [route if any(route) else self.auto for route in routes]


def _blank() -> CostModel:
    config = ModelConfig.paper()
    blocks = tuple(flops.block(256, 256, i, config) / 256**2 for i in range(BLOCKS))
    return CostModel(blocks, flops.routing(256, 256, config) / 256**2)
