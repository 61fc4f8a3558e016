"""What a mixture costs is learnt by its method and size, and the live head is an adaptive request's cheapest way."""

from __future__ import annotations

import pytest

from service.core.bucket import Bucket
from service.core.types import Method
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import MeasuredRun, RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.mixture_costs import PARTS, MixtureCosts, is_left_to_live, mixture_load

SMALL, LARGE = Bucket(64, 64, 1.0, Method.FLOW), Bucket(256, 448, 1.0, Method.FLOW)
FULL = (True,) * 9
METHODS = (Method.DMVFN, Method.FLOW, Method.MIX)


def measured(seconds: float, bucket: Bucket = LARGE, frames: int = 1, *, live: bool = False) -> MeasuredRun:
    return MeasuredRun(bucket, mixture_load(bucket, frames), seconds, live=live)


def learnt() -> MixtureCosts:
    costs = MixtureCosts.of(METHODS)
    mix = LARGE._replace(method=Method.MIX)
    costs.fit([measured(0.03), measured(0.05, mix), measured(0.01, live=True)])
    return costs


def cost(costs: MixtureCosts, bucket: Bucket, steps: int = 1) -> float:
    (option,) = costs.options(bucket, steps, 0.0, live=False)
    return option.cost


def test_each_method_starts_from_its_own_measurement() -> None:
    costs = learnt()
    assert cost(costs, LARGE) == pytest.approx(0.03)
    assert cost(costs, LARGE, steps=3) == pytest.approx(0.09)
    assert cost(costs, LARGE._replace(method=Method.MIX)) == pytest.approx(0.05)
    live = costs.options(LARGE, 1, 0.0, live=True)[1]
    assert live.cost == pytest.approx(0.01)
    assert (live.route, live.live) == (None, True)


def test_a_size_and_a_method_learn_apart_from_all_others() -> None:
    costs = learnt()
    costs.observe(measured(0.004, SMALL))
    assert cost(costs, SMALL) == pytest.approx(0.004)
    for _ in range(50):
        costs.observe(measured(0.06))
    assert cost(costs, LARGE) == pytest.approx(0.06, rel=0.01)
    assert cost(costs, SMALL) == pytest.approx(0.004)
    assert cost(costs, LARGE._replace(method=Method.MIX)) == pytest.approx(0.05)


def test_the_live_head_at_a_part_of_the_size_is_expected_to_take_a_part_and_learns_apart() -> None:
    costs, half = learnt(), LARGE._replace(scale=0.5)
    whole, part = (costs.live_alone(bucket, 2, 0.0)[0] for bucket in (LARGE, half))
    assert part.live
    assert whole.cost == pytest.approx(0.02)
    assert part.cost == pytest.approx(PARTS[0.5] * whole.cost)
    costs.observe(measured(0.004, half, live=True))
    assert costs.live_alone(half, 1, 0.0)[0].cost == pytest.approx(0.004)
    assert costs.live_alone(LARGE, 2, 0.0)[0].cost == pytest.approx(0.02, rel=0.01)


def test_a_small_size_that_took_long_to_warm_up_prices_itself_and_no_other() -> None:
    """On a machine at load 40 a frame of 32x48 took a second, and one of 256x448 was refused as 75 s away."""
    costs, tiny = MixtureCosts.of(METHODS), Bucket(32, 48, 1.0, Method.FLOW)
    costs.fit([measured(1.0, tiny), measured(0.5, tiny, live=True)])
    assert cost(costs, tiny) == pytest.approx(1.0, rel=0.05)
    assert cost(costs, LARGE) < 1.5
    (live,) = costs.live_alone(LARGE, 1, 0.0)
    assert live.cost < 0.6


def test_without_any_measurement_a_frame_costs_something() -> None:
    costs = MixtureCosts.of(METHODS)
    costs.fit([])
    assert 0.01 < cost(costs, LARGE) < 1
    assert costs.observe(measured(0.03)) < 1
    assert cost(costs, LARGE) == pytest.approx(0.03)


def test_the_live_head_is_a_way_only_where_it_is_the_cheapest() -> None:
    costs, network = learnt(), Bucket(256, 448, 1.0)
    ways = (RouteOption(0.05, FULL), RouteOption(0.012, (True,) + (False,) * 8))
    *others, live = costs.with_live(ways, network, 1, 0.0)
    assert tuple(others) == ways
    assert live.cost == pytest.approx(0.01)
    assert live.live
    quick = (RouteOption(0.009, FULL),)
    assert costs.with_live(quick, network, 1, 0.0) == quick
    assert MixtureCosts.of((Method.DMVFN,)).with_live(ways, network, 1, 0.0) == ways


@pytest.mark.parametrize(("budget", "live", "blocks"), [(0.1, False, 9), (0.013, False, 1), (0.011, True, 0)])
def test_the_live_head_answers_only_where_one_block_would_be_late(budget: float, live: bool, blocks: int) -> None:
    queue = BatchScheduler(QueueLimits())
    one = (True,) + (False,) * 8
    ways = learnt().with_live((RouteOption(0.05, FULL), RouteOption(0.012, one)), Bucket(256, 448, 1.0), 1, 0.0)
    queue.enqueue(Entry("a", Bucket(256, 448, 1.0), budget, ways), 0.0)
    (entry,) = queue.next_batch(0.0).batch
    assert entry.selection is not None
    assert (entry.selection.live, sum(entry.selection.route or ())) == (live, blocks)


def test_what_the_scheduler_adds_for_a_pass_through_the_network_is_not_a_mixtures() -> None:
    costs, queue = learnt(), BatchScheduler(QueueLimits())
    queue.overhead = 0.02
    ways = costs.with_live((RouteOption(0.001, FULL),), Bucket(256, 448, 1.0), 1, 0.02)
    assert [way.live for way in ways] == [False, True]
    (own,) = costs.options(LARGE, 1, 0.02, live=False)
    assert own.cost == pytest.approx(0.01)
    queue.enqueue(Entry("a", LARGE, 0.035, (own,)), 0.0)
    assert queue.next_batch(0.0).predicted_seconds == pytest.approx(0.03)


def test_a_route_is_chosen_in_vain_where_even_the_cheapest_is_late() -> None:
    live = RouteOption(0.01, live=True)
    ways = (RouteOption(0.05), RouteOption(0.02), live)
    assert [is_left_to_live(ways, seconds) for seconds in (0.015, 0.02, 0.1)] == [True, False, False]
    assert not is_left_to_live(ways[:2], 0.001)
    assert not is_left_to_live((live,), 0.001)


def test_mixtures_run_alone_and_never_beside_the_network() -> None:
    queue = BatchScheduler(QueueLimits())
    for name, method in (("a", Method.FLOW), ("b", Method.FLOW), ("c", Method.DMVFN), ("d", Method.DMVFN)):
        queue.enqueue(Entry(name, Bucket(64, 64, 1.0, method), 1e9, (RouteOption(0.01),)), 0.0)
    batches = []
    while batch := queue.next_batch(0.0).batch:
        batches.append([entry.id for entry in batch])
        queue.finish_batch(batch, 0.0)
    assert sorted(batches) == [["a"], ["b"], ["c", "d"]]
