"""What the announced price learns, and what it must not."""

from __future__ import annotations

import dataclasses
import random

import pytest

from service.core.bucket import Bucket
from service.core.timings import Timings
from service.core.types import Method, Options, PredictRequest, PredictResult
from service.distributed.broker import buckets
from service.distributed.worker.price import LARGEST_RATIO, MeasuredPrice
from tests.unit.distributed.engines import answer, frame


def measured(seconds: float, height: int = 64) -> tuple[PredictRequest, PredictResult]:
    request = PredictRequest("r", frame(1, height, 96), frame(2, height, 96), deadline=1.0)
    result = answer(request)
    timings = dataclasses.replace(result.timings, route=0.0, blocks=seconds)
    return request, dataclasses.replace(result, timings=timings, batch_size=1)


def test_the_first_run_of_a_size_teaches_nothing() -> None:
    price = MeasuredPrice()
    price.observe(*measured(3.0))
    assert price.seconds_per_megapixel is None
    price.observe(*measured(0.05))
    assert price.seconds_per_megapixel == pytest.approx(0.05 / buckets.work(Bucket.of(64, 96), 1, 1.0))
    price.observe(*measured(9.0, height=128))
    assert price.seconds_per_megapixel == pytest.approx(0.05 / buckets.work(Bucket.of(64, 96), 1, 1.0))


@pytest.mark.parametrize(
    ("asked", "shortened", "learns"), [(None, False, True), (Method.FLOW, False, False), (None, True, False)]
)
def test_a_mixture_teaches_where_it_is_the_weights_own_method(
    asked: Method | None, shortened: bool, learns: bool
) -> None:
    price = MeasuredPrice()
    request, result = measured(0.0)
    request = dataclasses.replace(request, options=Options(method=asked))
    step = dataclasses.replace(result.steps[0], method=Method.FLOW, route=(False,) * 9)
    timings = Timings(motion=0.02, mixing=0.03)
    result = dataclasses.replace(result, steps=(step,), timings=timings, shortened=shortened)
    for _ in range(2):
        price.observe(request, result)
    expected = 0.05 / buckets.work(Bucket.of(64, 96), 1, 1.0)
    assert price.seconds_per_megapixel == (pytest.approx(expected) if learns else None)


@pytest.mark.parametrize("seed", range(20))
def test_no_noise_lets_the_price_run_away(seed: int) -> None:
    price, dice = MeasuredPrice(), random.Random(seed)
    price.observe(*measured(0.05))
    price.observe(*measured(0.05))
    for _ in range(500):
        before = price.seconds_per_megapixel or 0.0
        price.observe(*measured(dice.choice([0.0, float("nan"), float("inf"), 10 ** dice.uniform(-6, 6)])))
        assert before / LARGEST_RATIO <= (price.seconds_per_megapixel or 0.0) <= before * LARGEST_RATIO
    for _ in range(200):
        price.observe(*measured(0.05))
    assert price.seconds_per_megapixel == pytest.approx(0.05 / buckets.work(Bucket.of(64, 96), 1, 1.0), rel=0.5)
