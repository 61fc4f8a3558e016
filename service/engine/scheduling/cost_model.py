"""Predicts how long a batch will take from its sizes and routes, and learns from how long it took.

Pure: measured seconds are arguments. time = step * passes + pixel * pixels + routing * routed + sum block_k * rows_k,
with rows in padded pixels, so a batch costs its passes plus the sum of its members' own costs.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from service.core.bucket import Bucket
from service.core.moments import CARRIED
from service.core.types import BLOCKS, Route

#: Where learning starts when nothing was measured: seconds per multiply-add of one slow core.
FIRST_GUESS = 1e-10
#: How much of a batch's error one observation corrects: of its size's factor, and of the shared coefficients.
SIZE_RATE, SHARED_RATE = 0.3, 0.05
#: Block usage is remembered over about this many routes.
USAGE_MEMORY = 200.0
#: Residuals remembered for the margin, and sizes remembered with a factor of their own.
RESIDUALS, SIZES = 128, 256
#: One observation moves a coefficient at most by this factor: a suspended process is no evidence.
LARGEST_RATIO = 8.0
#: Learnt rates stay within this factor of the warm-up's, and a size's factor within this factor of 1. Together they
#: hold every prediction within RATE_BAND * FACTOR_BAND of what the warm-up alone predicts, whatever was measured.
RATE_BAND, FACTOR_BAND = 3.0, 100.0


@dataclass(frozen=True, slots=True)
class RouteOption:
    """One way to answer a request, for about so many seconds.

    By the network along `route` (None: not chosen yet), or as the bucket's method says, or by the `live` head, or by
    the motion before, `shifted`.
    """

    cost: float
    route: Route | None = None
    live: bool = False
    shifted: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What a batch asked of the device, in padded pixels; `passes` is its longest member's steps.

    Frames that were carried on from another count as the part of one that they take (`Options.work`).
    """

    passes: float
    pixels: float
    routing_pixels: float
    blocks: tuple[float, ...]

    @classmethod
    def of(
        cls, bucket: Bucket, routes: Iterable[Route], passes: float, routings: int, further: Iterable[Route] = ()
    ) -> Load:
        """Add up the load of predicted frames with these routes and `routings` runs of the routing module.

        `further`: the route of each frame that was carried on from another.
        """
        routes, rest = list(routes), list(further)
        counts: list[float] = [sum(column) for column in zip(*routes, strict=True)] or [0] * BLOCKS
        for route in rest:
            counts = [count + CARRIED * runs for count, runs in zip(counts, route, strict=True)]
        network_pixels = bucket.network_pixels
        return cls(
            passes=passes,
            pixels=bucket.pixels * (len(routes) + CARRIED * len(rest)),
            routing_pixels=network_pixels * routings,
            blocks=tuple([network_pixels * count for count in counts]),
        )


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One row of the warm-up table: this load of this size took so many seconds."""

    bucket: Bucket
    load: Load
    seconds: float
    live: bool = False  #: by the live head
    shifted: bool = False  #: by the motion before


@dataclass(slots=True)
class CostModel:
    """Coefficients in seconds per pixel (of a pass: seconds), shared by all sizes, and a factor for each size.

    `block_weights` and `routing_weight` are multiply-adds per pixel: they shape the coefficients until every
    block has been seen apart from the others.
    """

    block_weights: tuple[float, ...]
    routing_weight: float
    passes: float = 0.0
    pixel: float = 0.0
    routing_rate: float = field(init=False)
    blocks: list[float] = field(init=False)
    usage: list[float] = field(init=False)
    factors: OrderedDict[Bucket, float] = field(default_factory=OrderedDict)
    _ratios: deque[float] = field(default_factory=lambda: deque(maxlen=RESIDUALS))
    _margin: float = 0.0
    _has_measurement: bool = False  #: whether anything was measured yet: the first measurement replaces FIRST_GUESS
    _bands: tuple[tuple[float, float], ...] = ()  #: lowest and highest rate of a pass, of routing, of each block

    def __post_init__(self) -> None:
        self.routing_rate = self.routing_weight * FIRST_GUESS
        self.blocks = [weight * FIRST_GUESS for weight in self.block_weights]
        self.usage = [0.5] * len(self.block_weights)
        self._bands = self._bands_around_rates()

    @property
    def margin(self) -> float:
        """Return the relative margin: 95 of 100 recent batches took at most (1 + margin) x predicted. 0..1."""
        return self._margin

    def fit(self, table: Sequence[MeasuredRun]) -> None:
        """Start from measurements: least squares over four rates, none negative, then each size's factor.

        Rows whose seconds are not finite and positive are left out.
        """
        table = [m for m in table if _is_time(m.seconds)]
        if not table:
            return
        rows = [[m.load.passes, m.load.pixels, m.load.routing_pixels, self._multiply_adds(m.load)] for m in table]
        # Relative errors count, not absolute ones: otherwise the largest size alone decides.
        scale = 1.0 / np.maximum([m.seconds for m in table], 1e-9)
        self.passes, self.pixel, routing, rate = _non_negative(np.asarray(rows, float) * scale[:, None])
        # Where no cost of blocks shows, they are taken for no dearer than what was measured with them.
        rate = rate or min([FIRST_GUESS, *(m.seconds / row[3] for m, row in zip(table, rows, strict=True) if row[3])])
        self.routing_rate = routing or self.routing_weight * rate
        self.blocks = [weight * rate for weight in self.block_weights]
        self._has_measurement, self._bands = True, self._bands_around_rates()
        for m in table:
            self.observe(m.bucket, m.load, m.seconds)
        self._ratios.clear()
        self._margin = 0.0

    def adopt(self, weights: int, like: int) -> None:
        """Expect of the weights with this number, size by size, what is known of those numbered `like`."""
        for bucket, factor in list(self.factors.items()):
            if bucket.weights == like:
                self._set_factor(bucket._replace(weights=weights), factor)

    def fit_size(self, row: MeasuredRun) -> None:
        """Correct the factor of a run's own size and weights, and nothing else: others were measured elsewhere.

        Each of a table's rows halves what is left of the error.
        """
        own = self._own(row.bucket, row.load)
        rest = row.seconds - self.passes * row.load.passes
        if own > 0 and _is_time(rest):
            factor = self._factor(row.bucket) * math.sqrt(rest / own)
            self._set_factor(row.bucket, _clamp(factor, 1 / FACTOR_BAND, FACTOR_BAND))

    def forget(self, weights: int) -> None:
        """Forget the factors of weights that are not loaded any more."""
        for bucket in [bucket for bucket in self.factors if bucket.weights == weights]:
            del self.factors[bucket]

    def seconds(self, bucket: Bucket, load: Load) -> float:
        """Predict the seconds of a batch, without margin."""
        return self.passes * load.passes + self._own(bucket, load)

    def cost(self, bucket: Bucket, route: Sequence[float] | None, steps: float, routings: float) -> float:
        """Predict the seconds one request adds to its batch: `route` for each of `steps`; None: a usual one."""
        usage = self.usage if route is None else route
        network_pixels = bucket.network_pixels
        blocks = _products(self.blocks, usage) * network_pixels * steps
        own = self.pixel * bucket.pixels * steps + self.routing_rate * network_pixels * routings + blocks
        return own * self._factor(bucket)

    def route_options(
        self, bucket: Bucket, route: Route | None, probabilities: Sequence[float] | None, steps: float, routings: float
    ) -> tuple[RouteOption, ...]:
        """List ways to answer, the dearest first: `route` alone, or with probabilities shortened block by block.

        The least probable block goes first (ties: the later one), down to one block. Without a route yet: what
        routes usually cost and, given probabilities (any), the cheapest single block.
        """
        if route is None:
            dear = RouteOption(self.cost(bucket, None, steps, routings))
            return (
                (dear,)
                if probabilities is None
                else (dear, RouteOption(min(dear.cost, self._least(bucket, steps, routings))))
            )
        options = [RouteOption(self.cost(bucket, route, steps, routings), route)]
        if probabilities is not None:
            for block in sorted(range(len(route)), key=lambda i: (probabilities[i], -i)):
                if route[block] and sum(route) > 1:
                    route = tuple(bit and i != block for i, bit in enumerate(route))
                    options.append(RouteOption(self.cost(bucket, route, steps, routings), route))
        return tuple(options)

    def record_route(self, route: Route) -> None:
        """Remember a route that the network chose, as an example of what routes usually are."""
        for i, runs in enumerate(route):
            self.usage[i] += (runs - self.usage[i]) / USAGE_MEMORY

    def observe(self, bucket: Bucket, load: Load, seconds: float, *, trial: bool = False) -> float:
        """Learn from a batch that took `seconds`; return the ratio of measured to predicted time.

        A `trial` was run because its prediction refused it: what it took corrects its size's factor in full.
        Seconds that are not finite and positive teach nothing and return 1.
        """
        passes, own = self.passes * load.passes, self._own(bucket, load)
        estimate = passes + own
        if estimate <= 0 or not _is_time(seconds):
            return 1.0
        ratio = seconds / estimate
        if not self._has_measurement:
            self._replace_guess(ratio)
            return ratio
        self._ratios.append(ratio)
        self._margin = min(1.0, max(0.0, _quantile(self._ratios, 0.95) - 1.0))
        self._correct(bucket, load, passes / estimate, own / estimate, ratio, trial=trial)
        return ratio

    def _correct(
        self, bucket: Bucket, load: Load, passes_share: float, own_share: float, ratio: float, *, trial: bool
    ) -> None:
        step = _clamp(ratio, 1 / LARGEST_RATIO, LARGEST_RATIO)
        factor = self._factor(bucket)
        rate = 1.0 if trial or bucket not in self.factors else SIZE_RATE
        self._set_factor(bucket, _clamp(factor * step ** (rate * own_share), 1 / FACTOR_BAND, FACTOR_BAND))
        passes_band, routing_band, *block_bands = self._bands
        self.passes = _clamp(self.passes * step ** (SIZE_RATE * passes_share), *passes_band)
        # Each rate answers for the error by its share of the sum before the size's factor, so that the exponents
        # add up to SHARED_RATE at most. Divided by the corrected sum they would grow as factors shrink, and diverge.
        raw = self.pixel * load.pixels + self.routing_rate * load.routing_pixels
        raw += _products(self.blocks, load.blocks)
        if raw <= 0:
            return
        exponent = SHARED_RATE / raw
        for i, (pixels, band) in enumerate(zip(load.blocks, block_bands, strict=True)):
            self.blocks[i] = _clamp(self.blocks[i] * step ** (exponent * self.blocks[i] * pixels), *band)
        self.routing_rate = _clamp(
            self.routing_rate * step ** (exponent * self.routing_rate * load.routing_pixels), *routing_band
        )

    def _replace_guess(self, ratio: float) -> None:
        """Scale all rates by the first measurement's `ratio`: nothing was fitted, so there is nothing to keep."""
        self.passes, self.pixel, self.routing_rate = self.passes * ratio, self.pixel * ratio, self.routing_rate * ratio
        self.blocks = [rate * ratio for rate in self.blocks]
        self._has_measurement, self._bands = True, self._bands_around_rates()

    def _bands_around_rates(self) -> tuple[tuple[float, float], ...]:
        # A fit may give routing next to nothing: its band reaches to what its multiply-adds would cost as well.
        routing = self.routing_weight * sum(self.blocks) / max(sum(self.block_weights), 1e-9)
        low, high = min(self.routing_rate, routing), max(self.routing_rate, routing)
        around = [(self.passes, self.passes), (low, high), *zip(self.blocks, self.blocks, strict=True)]
        return tuple((lowest / RATE_BAND, highest * RATE_BAND) for lowest, highest in around)

    def _own(self, bucket: Bucket, load: Load) -> float:
        blocks = _products(self.blocks, load.blocks)
        return (self.pixel * load.pixels + self.routing_rate * load.routing_pixels + blocks) * self._factor(bucket)

    def _multiply_adds(self, load: Load) -> float:
        return _products(self.block_weights, load.blocks)

    def _least(self, bucket: Bucket, steps: float, routings: float) -> float:
        cheapest = self.blocks.index(min(self.blocks))
        return self.cost(bucket, [i == cheapest for i in range(len(self.blocks))], steps, routings)

    def _factor(self, bucket: Bucket) -> float:
        return self.factors.get(bucket, 1.0)

    def _set_factor(self, bucket: Bucket, value: float) -> None:
        self.factors[bucket] = value
        self.factors.move_to_end(bucket)
        if len(self.factors) > SIZES:
            self.factors.popitem(last=False)


def _is_time(seconds: float) -> bool:
    return 0.0 < seconds < math.inf  # false for nan, too


def _products(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum([weight * value for weight, value in zip(weights, values, strict=True)])


def _clamp(value: float, lowest: float, highest: float) -> float:
    return min(max(value, lowest), highest)


def _non_negative(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float]:
    """Find x >= 0 minimising |rows @ x - 1|, by dropping the most negative column until none is (few columns)."""
    candidates = list(range(rows.shape[1]))
    candidates = [i for i in candidates if rows[:, i].any()]
    size = {i: float(np.linalg.norm(rows[:, i])) for i in candidates}
    while candidates:
        columns = np.stack([rows[:, i] / size[i] for i in candidates], axis=1)
        solution = np.linalg.lstsq(columns, np.ones(len(rows)), rcond=1e-6)[0]
        if solution.min() >= 0:
            rates = {i: float(value) / size[i] for i, value in zip(candidates, solution, strict=True)}
            return [rates.get(i, 0.0) for i in range(rows.shape[1])]
        candidates.pop(int(solution.argmin()))
    return [0.0] * rows.shape[1]


def _quantile(values: Iterable[float], q: float) -> float:
    ascending = sorted(values)
    return ascending[min(len(ascending) - 1, math.ceil(q * len(ascending)) - 1)]
