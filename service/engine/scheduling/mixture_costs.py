"""Predicts what mixtures of motions cost, and adds the live head to the ways an adaptive request may be answered.

Pure. One cost model a method, since none shares anything with the network's blocks, and one for the live head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.core.bucket import Bucket
from service.core.types import Method
from service.engine.scheduling.cost_model import CostModel, Load, MeasuredRun, RouteOption

#: Where learning starts when nothing was measured: seconds a pixel on one slow core, by a head, by the live head, and
#: by the motion before.
FIRST_MIXTURE, FIRST_LIVE, FIRST_SHIFTED = 5e-7, 2e-7, 1e-8
#: A warm-up's time of one size says at most so many times that of other sizes: a small frame takes more for its calls
#: than for its pixels, and on a busy machine it mostly waits, for which every larger frame would be refused.
MOST_OVER_FIRST = 20.0
#: What the live head takes at a part of the size, in frames at full size: what learning starts from.
PARTS = {1.0: 1.0, 0.5: 0.4, 0.25: 0.2}
#: Each halves what is left of an error.
CORRECTIONS = 8


def mixture_load(bucket: Bucket, frames: float) -> Load:
    """Return the load of so many frames predicted one after the other, at the bucket's scale."""
    pixels = float(bucket.pixels * frames * PARTS[bucket.scale])
    return Load(passes=0, pixels=pixels, routing_pixels=0.0, blocks=())


def is_left_to_live(options: Sequence[RouteOption], seconds: float) -> bool:
    """Tell whether only what stands behind the routes can answer within `seconds`, so that none needs choosing."""
    routes = [option for option in options if not (option.live or option.shifted)]
    return 0 < len(routes) < len(options) and routes[-1].cost > seconds


@dataclass(slots=True)
class MixtureCosts:
    """Seconds per pixel of each method but the network's, learnt as `CostModel` learns.

    `pass_seconds` of its methods is what the scheduler adds to every option for a pass through the network, which a
    mixture does not make: it is taken off.
    """

    models: dict[Method, CostModel] = field(default_factory=dict)
    live: CostModel | None = None  #: None where there is no live head
    shifted: CostModel = field(default_factory=lambda: _blank(FIRST_SHIFTED))  #: of the motion before

    @classmethod
    def of(cls, methods: Sequence[Method]) -> MixtureCosts:
        """Return unlearnt costs of `methods`; whoever can do flow has the live head, too."""
        mixtures = [method for method in methods if method is not Method.DMVFN]
        models: dict[Method, CostModel] = {method: _blank(FIRST_MIXTURE) for method in mixtures}
        return cls(models, _blank(FIRST_LIVE) if models else None)

    def fit(self, table: Sequence[MeasuredRun]) -> None:
        """Start from a warm-up's measurements; rows of the network are left out."""
        for method, model in self.models.items():
            _fit(model, [run for run in table if run.bucket.method is method and not run.live], FIRST_MIXTURE)
        if self.live is not None:
            _fit(self.live, [run for run in table if run.live], FIRST_LIVE)

    def adopt(self, weights: int, like: int) -> None:
        """Expect of the weights with this number, by every method, what is known of those numbered `like`."""
        for model in self.models.values():
            model.adopt(weights, like)

    def forget(self, weights: int) -> None:
        """Forget weights that are not loaded any more."""
        for model in self.models.values():
            model.forget(weights)

    def fit_size(self, row: MeasuredRun) -> None:
        """Correct what is expected of a run's size and weights. What runs without them (live, shifted) is left out."""
        if not (row.live or row.shifted):
            self.models[row.bucket.method].fit_size(row)

    def options(self, bucket: Bucket, steps: float, pass_seconds: float, *, live: bool) -> tuple[RouteOption, ...]:
        """List ways to answer by the bucket's method, the dearest first; `live`: by the live head, too."""
        own = RouteOption(max(0.0, self.models[bucket.method].cost(bucket, (), steps, 0) - steps * pass_seconds))
        return self.with_live((own,), bucket, steps, pass_seconds) if live else (own,)

    def with_live(
        self, options: tuple[RouteOption, ...], bucket: Bucket, steps: float, pass_seconds: float
    ) -> tuple[RouteOption, ...]:
        """Append the live head where it is cheaper than the cheapest of `options`: it answers where that is late."""
        if self.live is None:
            return options
        (live,) = self.live_alone(bucket, steps, pass_seconds)
        return (*options, live) if live.cost < options[-1].cost else options

    def live_alone(self, bucket: Bucket, steps: float, pass_seconds: float) -> tuple[RouteOption, ...]:
        """List the live head as the only way to answer; the bucket's own method where there is no live head."""
        if self.live is None:
            return self.options(bucket, steps, pass_seconds, live=False)
        cost = self.live.cost(_live(bucket), (), steps * PARTS[bucket.scale], 0)
        return (RouteOption(max(0.0, cost - steps * pass_seconds), live=True),)

    def with_shifted(
        self, options: tuple[RouteOption, ...], bucket: Bucket, steps: float, pass_seconds: float
    ) -> tuple[RouteOption, ...]:
        """Append the motion before, for who has one, as the last way.

        It makes no pass, and may be quicker than one: the costs of all ways are then whole, `pass_seconds` for each of
        `steps` within them, and the entry's own steps must count none (`Entry.steps` 0).
        """
        whole = [dataclasses.replace(option, cost=option.cost + steps * pass_seconds) for option in options]
        return (*whole, RouteOption(self.shifted.cost(_live(bucket), (), steps, 0), shifted=True))

    def observe(self, run: MeasuredRun, *, trial: bool = False) -> float:
        """Learn from a batch as `CostModel.observe`; return the ratio of measured to predicted time."""
        if run.shifted:
            return self.shifted.observe(_live(run.bucket), run.load, run.seconds, trial=trial)
        if run.live and self.live is not None:
            return self.live.observe(_live(run.bucket), run.load, run.seconds, trial=trial)
        return self.models[run.bucket.method].observe(run.bucket, run.load, run.seconds, trial=trial)


def _fit(model: CostModel, table: Sequence[MeasuredRun], first: float) -> None:
    """Start from measurements: each size from its own, the others from what they make plausible of a pixel."""
    most = [MOST_OVER_FIRST * first * run.load.pixels for run in table]
    model.fit(
        [dataclasses.replace(run, seconds=min(run.seconds, seconds)) for run, seconds in zip(table, most, strict=True)]
    )
    for run, seconds in zip(table, most, strict=True):
        for _ in range(CORRECTIONS if run.seconds > seconds else 0):
            model.fit_size(run)


def _blank(seconds_per_pixel: float) -> CostModel:
    return CostModel((), 0.0, pixel=seconds_per_pixel)


def _live(bucket: Bucket) -> Bucket:
    """Return the bucket under which the live head's costs of a size are kept, whatever method it stands in for."""
    return Bucket(bucket.height, bucket.width, bucket.scale, Method.FLOW)
