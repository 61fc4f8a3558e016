"""The cost model learns how long batches take, and prices routes with what it learned."""

from __future__ import annotations

import random

import pytest

from service.core.bucket import Bucket
from service.core.types import Route
from service.engine.scheduling.cost_model import SIZES, CostModel, Load, MeasuredRun, RouteOption

SMALL, LARGE = Bucket(64, 64, 1.0), Bucket(512, 512, 1.0)
FULL: Route = (True,) * 9
WEIGHTS = (5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 6.0, 6.0, 6.0)


def bits(text: str) -> Route:
    return tuple(bit == "1" for bit in text)


def truth(bucket: Bucket, load: Load) -> float:
    """A machine: 2 ms a pass, 3 ns a routed pixel, and every block a speed of its own."""
    blocks = sum((1 + 0.1 * k) * WEIGHTS[k] * 1e-9 * pixels for k, pixels in enumerate(load.blocks))
    return 0.002 * load.passes + 3e-9 * load.routing_pixels + blocks


def table() -> list[MeasuredRun]:
    one = bits("100000000")
    loads = [
        (bucket, Load.of(bucket, [route] * count, 1, routings))
        for bucket in (SMALL, LARGE)
        for route, count, routings in ((one, 1, 0), (FULL, 1, 0), (FULL, 1, 1), (FULL, 4, 0))
    ]
    return [MeasuredRun(bucket, load, truth(bucket, load)) for bucket, load in loads]


def fitted() -> CostModel:
    model = CostModel(WEIGHTS, 2.0)
    model.fit(table())
    return model


def test_the_warm_up_table_predicts_what_it_holds() -> None:
    model = fitted()
    assert [model.seconds(m.bucket, m.load) for m in table()] == pytest.approx([m.seconds for m in table()], rel=0.15)


def test_a_table_of_nonsense_gives_no_negative_prediction() -> None:
    model = CostModel(WEIGHTS, 2.0)
    model.fit([MeasuredRun(m.bucket, m.load, 1.0 / (1 + i)) for i, m in enumerate(table())])
    assert all(model.seconds(m.bucket, m.load) >= 0 for m in table())
    assert min(model.blocks) >= 0


def test_watching_batches_makes_predictions_better() -> None:
    model, chance = fitted(), random.Random(1)
    errors = []
    for _ in range(2000):
        bucket = chance.choice((SMALL, LARGE))
        routes = [tuple(chance.random() < 0.5 for _ in range(9)) for _ in range(chance.randint(1, 8))]
        load = Load.of(bucket, routes, 1, len(routes))
        errors.append(abs(model.observe(bucket, load, truth(bucket, load)) - 1))
    assert sum(errors[-500:]) < 0.8 * sum(errors[:500])
    assert sorted(errors[-500:])[475] < 0.1


def test_a_device_that_became_slower_is_noticed_within_some_batches() -> None:
    model, load = fitted(), Load.of(LARGE, [FULL], 1, 1)
    for _ in range(20):
        model.observe(LARGE, load, 3 * truth(LARGE, load))
    assert model.seconds(LARGE, load) == pytest.approx(3 * truth(LARGE, load), rel=0.05)


def test_one_wild_measurement_is_forgotten() -> None:
    model, load = fitted(), Load.of(LARGE, [FULL], 1, 1)
    model.observe(LARGE, load, 1000.0)
    for _ in range(20):
        model.observe(LARGE, load, truth(LARGE, load))
    assert model.seconds(LARGE, load) == pytest.approx(truth(LARGE, load), rel=0.05)


def test_the_margin_covers_all_but_one_of_twenty_batches() -> None:
    model, load = fitted(), Load.of(SMALL, [FULL], 1, 1)
    quiet = model.margin
    for i in range(100):
        model.observe(SMALL, load, model.seconds(SMALL, load) * (1.4 if i % 10 == 0 else 1.0))
    assert quiet == 0.0
    assert model.margin == pytest.approx(0.4)


def test_a_batch_costs_its_passes_and_its_members() -> None:
    model, routes = fitted(), [bits("110000000"), bits("000000011"), FULL]
    members = sum(model.cost(LARGE, route, 1, 1) for route in routes)
    assert model.seconds(LARGE, Load.of(LARGE, routes, 1, 3)) == pytest.approx(model.passes + members)


def test_an_exact_route_has_one_price() -> None:
    model, route = fitted(), bits("101000001")
    assert model.route_options(SMALL, route, None, 2, 0) == (RouteOption(model.cost(SMALL, route, 2, 0), route),)


def test_an_adaptive_route_loses_its_least_probable_block_first() -> None:
    rungs = fitted().route_options(SMALL, bits("101000001"), (0.6, 0.0, 0.9, 0, 0, 0, 0, 0, 0.7), 1, 0)
    assert [rung.route for rung in rungs] == [bits("101000001"), bits("001000001"), bits("001000000")]
    assert [rung.cost for rung in rungs] == sorted((rung.cost for rung in rungs), reverse=True)


def test_an_unknown_route_is_priced_by_what_routes_usually_are() -> None:
    model, route = fitted(), bits("111000000")
    for _ in range(2000):
        model.record_route(route)
    (usual,) = model.route_options(LARGE, None, None, 1, 1)
    assert usual.route is None
    assert usual.cost == pytest.approx(model.cost(LARGE, route, 1, 1), rel=1e-3)


def test_an_unknown_adaptive_route_may_become_as_short_as_one_block() -> None:
    model = fitted()
    dear, cheap = model.route_options(LARGE, None, FULL, 1, 1)
    single = min(model.cost(LARGE, tuple(i == k for i in range(9)), 1, 1) for k in range(9))
    assert (dear.route, cheap.route) == (None, None)
    assert single == pytest.approx(cheap.cost)
    assert cheap.cost < dear.cost


def test_sizes_that_callers_invent_do_not_grow_the_model_without_end() -> None:
    model = fitted()
    for height in range(16, 16 * (3 * SIZES), 16):
        bucket = Bucket(height, 64, 1.0)
        load = Load.of(bucket, [FULL], 1, 1)
        model.observe(bucket, load, 5 * truth(bucket, load))
    assert len(model.factors) == SIZES
