"""Prices a request: the ways it may be answered, each with its predicted seconds, by what one device's runs have cost.

Pure, and without torch: who holds the device prices by it and teaches it; whoever queues work for it elsewhere prices,
too.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.core.bucket import Bucket
from service.core.types import BLOCKS, Method, Options, Quality, Route, RoutePolicy
from service.engine.scheduling.cost_model import SIZES, CostModel, MeasuredRun, RouteOption
from service.engine.scheduling.mixture_costs import MixtureCosts

#: Times that a copy is tried while the device's thread adds sizes.
COPY_TRIES = 5


class PriceRange(NamedTuple):
    """Predicted seconds of a request alone: the way it would like, and the cheapest that it allows."""

    most: float
    least: float


def needs_routing(options: Options) -> bool:
    """Tell whether the routing module has a say: not where the caller fixed the blocks and wants exactly those."""
    is_fixed = options.route.policy in (RoutePolicy.FULL, RoutePolicy.EXPLICIT)
    return not is_fixed or options.quality is Quality.ADAPTIVE


@dataclass(slots=True)
class DeviceCosts:
    """What one device's runs cost: the network's model, and those of mixtures."""

    network: CostModel
    mixtures: MixtureCosts = field(default_factory=MixtureCosts)

    def route_options(self, bucket: Bucket, options: Options) -> tuple[RouteOption, ...]:
        """List the ways to answer a request of this bucket, the dearest first; routes may be yet to be chosen.

        Seconds are without those of the passes through the network, which the members of a batch share.
        """
        cost, steps = self.network, options.work
        if options.quality is Quality.FAST:
            return self.mixtures.live_alone(bucket, steps, cost.passes)
        if bucket.method is not Method.DMVFN:
            return self.mixtures.options(bucket, steps, cost.passes, live=options.allows_live)
        choice, is_adaptive = options.route, options.quality is Quality.ADAPTIVE
        blocks = len(cost.block_weights)
        if not needs_routing(options):
            route = choice.bits if choice.policy is RoutePolicy.EXPLICIT and choice.bits else (True,) * blocks
            ways = cost.route_options(bucket, route, None, steps, 0)
        elif choice.policy is RoutePolicy.BUDGET and choice.blocks is not None and not is_adaptive:
            share = [choice.blocks / blocks] * blocks
            ways = (RouteOption(cost.cost(bucket, share, steps, steps)),)
        else:
            ways = cost.route_options(bucket, None, (1.0,) * blocks if is_adaptive else None, steps, steps)
        return self.mixtures.with_live(ways, bucket, steps, cost.passes) if options.allows_live else ways

    def routed_options(
        self, bucket: Bucket, options: Options, route: Route, probabilities: Sequence[float] | None, *, shifted: bool
    ) -> tuple[RouteOption, ...]:
        """List the ways to answer a request whose `route` is chosen, as `route_options`.

        `shifted`: by the motion before, too. An adaptive request's route may lose its least probable blocks.
        """
        cost, steps = self.network, options.work
        ladder = probabilities if options.quality is Quality.ADAPTIVE else None
        ways = cost.route_options(bucket, route, ladder, steps, steps - 1)
        if options.allows_live:
            ways = self.mixtures.with_live(ways, bucket, steps, cost.passes)
        return self.mixtures.with_shifted(ways, bucket, steps, cost.passes) if shifted else ways

    def price(self, bucket: Bucket, options: Options) -> PriceRange:
        """Predict the seconds that a request takes by itself."""
        ways, passes = self.route_options(bucket, options), self.network.passes * options.work
        return PriceRange(ways[0].cost + passes, ways[-1].cost + passes)

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, table: Sequence[MeasuredRun]) -> None:
        """Start from a warm-up's measurements."""
        self.network.fit([run for run in table if run.bucket.method is Method.DMVFN])
        self.mixtures.fit(table)

    def observe(self, run: MeasuredRun, stand_ins: Sequence[MeasuredRun] = (), *, trial: bool = False) -> float:
        """Learn from a batch, whose seconds are those of all of it, and apart from it from what stood in.

        Returns the ratio of measured to predicted time: of the batch's method, or of what stood in where nothing else
        ran. A `trial` as of `CostModel.observe`.
        """
        ratio, seconds = 1.0, run.seconds
        for stand_in in stand_ins:
            ratio = self.mixtures.observe(stand_in, trial=trial)
            seconds -= stand_in.seconds
        if stand_ins and not run.load.pixels:
            return ratio
        if run.bucket.method is Method.DMVFN:
            return self.network.observe(run.bucket, run.load, seconds, trial=trial)
        return self.mixtures.observe(dataclasses.replace(run, seconds=seconds), trial=trial)

    def adopt(self, weights: int, like: int) -> None:
        """Expect of the weights with this number what is known of those numbered `like`."""
        self.network.adopt(weights, like)
        self.mixtures.adopt(weights, like)

    def fit_size(self, run: MeasuredRun) -> None:
        """Correct what is expected of a run's own size and weights, and nothing else."""
        if run.bucket.method is Method.DMVFN:
            self.network.fit_size(run)
        else:
            self.mixtures.fit_size(run)

    def forget(self, weights: int) -> None:
        """Forget weights that are not loaded any more."""
        self.network.forget(weights)
        self.mixtures.forget(weights)

    # --- between processes ------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Return all that prices need as plain values, for `read`; from any thread."""
        return {
            "network": _copied(self.network),
            "mixtures": {method.value: _copied(model) for method, model in self.mixtures.models.items()},
            "live": None if self.mixtures.live is None else _copied(self.mixtures.live),
        }

    @classmethod
    def read(cls, value: object) -> DeviceCosts:
        """Read what `as_dict` returned; ValueError for anything else. Methods that are not known here are left out."""
        document = _mapping(value)
        mixtures = {
            Method(name): _model(model, Method(name))
            for name, model in _mapping(document.get("mixtures", {})).items()
            if name in [*Method]
        }
        live = document.get("live")
        return cls(
            _model(document.get("network"), Method.DMVFN),
            MixtureCosts(mixtures, None if live is None else _model(live, Method.FLOW)),
        )


def _copied(model: CostModel) -> dict[str, Any]:
    for _ in range(COPY_TRIES):
        try:
            factors = [[*bucket[:3], factor] for bucket, factor in list(model.factors.items())]
            break
        except RuntimeError:  # the device's thread added a size meanwhile
            factors = []
    return {
        "passes": model.passes,
        "pixel": model.pixel,
        "routing_weight": model.routing_weight,
        "routing": model.routing_rate,
        "weights": list(model.block_weights),
        "blocks": list(model.blocks),
        "usage": list(model.usage),
        "factors": factors,
    }


def _model(value: object, method: Method) -> CostModel:
    document = _mapping(value)
    weights, blocks, usage = (_numbers(document.get(name)) for name in ("weights", "blocks", "usage"))
    if not len(weights) == len(blocks) == len(usage) <= BLOCKS:
        raise ValueError("costs of another number of blocks")
    passes, pixel, routing_weight, routing = _numbers(
        [document.get(name) for name in ("passes", "pixel", "routing_weight", "routing")]
    )
    model = CostModel(tuple(weights), routing_weight, passes, pixel)
    model.routing_rate, model.blocks, model.usage = routing, blocks, usage
    factors: OrderedDict[Bucket, float] = OrderedDict()
    for row in _sequence(document.get("factors"))[-SIZES:]:
        height, width, scale, factor = _numbers(row)
        factors[Bucket(int(height), int(width), scale, method)] = factor
    model.factors = factors
    return model


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("costs of another form")
    return value


def _sequence(value: object) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("costs of another form")
    return value


def _numbers(value: object) -> list[float]:
    """Read finite numbers, none negative."""
    numbers = [float(x) for x in _sequence(value) if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if len(numbers) != len(_sequence(value)) or not all(0.0 <= x < math.inf for x in numbers):
        raise ValueError("costs that are no finite numbers")
    return numbers
