"""Prices of what is queued have bounds, whatever workers say that their runs cost."""

from __future__ import annotations

import pytest

from service.core.bucket import Bucket
from service.core.types import Options
from service.distributed.broker import announcement
from service.distributed.frontend.prices import MOST_S, QueuePrices
from service.engine.scheduling.cost_model import CostModel
from service.engine.scheduling.pricing import DeviceCosts
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import MODEL, Adder, alike, answer
from tests.unit.distributed.frontend.test_engine import request
from tests.unit.distributed.servers import Server

NONSENSE = [1e300, 1.7e308, 1e13]


@pytest.mark.parametrize("cost", [*NONSENSE, -5.0, -1e308])
def test_a_mean_of_nonsense_is_a_price_all_the_same(cost: float) -> None:
    price = QueuePrices(per_megapixel=cost).price(Bucket.of(1024, 1024), Options(steps=16))
    assert price.most == price.least == (0.0 if cost < 0 else MOST_S)


@pytest.mark.parametrize("seconds", NONSENSE)
def test_costs_that_are_nonsense_are_a_price_all_the_same(seconds: float) -> None:
    costs = DeviceCosts(CostModel((seconds,) * 9, seconds, seconds, seconds))
    document = DeviceCosts.read(costs.as_dict())
    price = QueuePrices((document, document)).price(Bucket.of(1024, 1024), Options(steps=16))
    assert 0.0 <= price.least <= price.most == MOST_S


def test_what_a_prediction_costs_is_its_price() -> None:
    price = QueuePrices(per_megapixel=0.5).price(Bucket.of(1024, 1024), Options(steps=2))
    assert price.most == pytest.approx(1.048576)


async def test_a_worker_that_announces_nonsense_breaks_nobodys_call_and_no_count(bench: Bench, server: Server) -> None:
    """Its price did not fit the counts in Redis: the submission broke off half way, and its item never ended."""
    admin = server.client()
    async with bench.work(Adder()):
        admin.set(bench.keys.model, announcement.info_bytes(MODEL, NONSENSE[0]))
        admin.set(bench.keys.info("strange"), announcement.info_bytes(MODEL, NONSENSE[0]))
        admin.zadd(bench.keys.workers, {"strange": 1e15})
        await until(lambda: bench.front.snapshot.prices.per_megapixel == NONSENSE[0])
        asked = request(1)
        assert alike(await bench.engine.predict(asked), answer(asked))
        await until(bench.empty)
    admin.close()
