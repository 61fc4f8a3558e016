"""Budgets in Redis: one over all front ends, charged by the workers, counted by each alone while Redis is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from service.core.api_keys import ApiKey
from service.core.token_bucket import Allowance
from service.core.types import PredictRequest
from service.distributed.broker import scripts
from service.distributed.frontend.limiter import RedisLimiter
from service.distributed.frontend.queue_client import QueueClient
from service.serving.access import LocalLimiter
from service.settings import Settings
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import Adder, frame

RATED = ApiKey("rated", (), requests=Allowance(5, 0.001))
BUDGET = ApiKey("budget", (), gflop=Allowance(100, 0.5))


@pytest_asyncio.fixture
async def other(settings: Settings) -> AsyncIterator[QueueClient]:
    front = QueueClient(settings, metrics())
    await front.start()
    yield front
    await front.stop()


async def test_two_front_ends_give_no_more_than_one_would(bench: Bench, other: QueueClient) -> None:
    await until(lambda: not bench.front.is_away and not other.is_away)
    limiters = RedisLimiter(bench.front), RedisLimiter(other)
    grants = await asyncio.gather(*(limiters[n % 2].take(RATED) for n in range(12)))
    assert sum(grant.wait == 0 for grant in grants) == 5
    assert {grant.short for grant in grants if grant.wait} == {"requests"}
    assert all(900 < grant.wait <= 1000 for grant in grants if grant.wait)
    assert min(grant.quotas[0].remaining for grant in grants) == 0
    # Another caller's is another budget.
    assert (await limiters[0].take(replace(RATED, name="another"))).wait == 0


@pytest.mark.parametrize("seed", range(3))
async def test_redis_counts_as_one_process_does(bench: Bench, seed: int) -> None:
    """The arithmetic stands in Lua and in Python: the same requests and charges, with next to no inflow."""
    await until(lambda: not bench.front.is_away)
    dice = random.Random(seed)
    local, shared = LocalLimiter(lambda: 0.0), RedisLimiter(bench.front)
    keys = [
        ApiKey(f"both {seed}", (), requests=Allowance(12, 1e-6), gflop=Allowance(dice.uniform(1, 90), 1e-6)),
        ApiKey(f"one {seed}", (), gflop=Allowance(dice.uniform(1, 90), 1e-6)),
    ]
    for _ in range(40):
        key = dice.choice(keys)
        here, there = local.take_now(key), await shared.take(key)
        assert (here.wait > 0) == (there.wait > 0)
        assert here.wait == pytest.approx(there.wait, rel=1e-3)
        assert [quota.unit for quota in here.quotas] == [quota.unit for quota in there.quotas]
        for ours, theirs in zip(here.quotas, there.quotas, strict=True):
            assert ours.level.tokens == pytest.approx(theirs.level.tokens, abs=1e-3)
        flops = dice.randrange(20 * 10**9)
        local.charge(key.name, flops)
        charge = scripts.CHARGE_ALLOWANCE.bind(allowance=bench.keys.allowance(key.name), gflop=repr(flops / 1e9))
        assert await scripts.call(bench.front.client, charge) == 1


async def test_a_worker_charges_what_it_predicted_to_its_caller(bench: Bench) -> None:
    class Costly(Adder):
        async def predict(self, request: PredictRequest):  # type: ignore[no-untyped-def]
            result = await super().predict(request)
            return replace(result, steps=(replace(result.steps[0], flops=150 * 10**9),))

    limiter = RedisLimiter(bench.front)
    async with bench.work(Costly()):
        assert (await limiter.take(BUDGET)).wait == 0
        await bench.engine.predict(PredictRequest("r", frame(1), frame(2), client="budget"))
        await bench.engine.predict(PredictRequest("r", frame(1), frame(2), client="has none"))
        key = bench.keys.allowance("budget")

        async def is_charged() -> bool:
            return float(await bench.front.client.hget(key, "g")) < 0

        await until(is_charged)
        grant = await limiter.take(BUDGET)
    assert grant.short == "gflop"
    # 50 of debt and the one that must be there, at a half a second.
    assert 95 < grant.wait <= 102
    assert not await bench.front.client.exists(bench.keys.allowance("has none"))


async def test_a_budget_that_is_whole_again_leaves_nothing_in_redis(bench: Bench) -> None:
    await until(lambda: not bench.front.is_away)
    limiter = RedisLimiter(bench.front)
    await limiter.take(RATED)
    remaining_ms = await bench.front.client.pttl(bench.keys.allowance("rated"))
    assert 1_000_000 < remaining_ms <= 1_001_000  # one token, and the slack


async def test_a_limit_that_is_gone_is_not_charged_any_more(bench: Bench) -> None:
    await until(lambda: not bench.front.is_away)
    limiter, client, key = RedisLimiter(bench.front), bench.front.client, bench.keys.allowance("budget")
    await limiter.take(BUDGET)
    charge = scripts.CHARGE_ALLOWANCE.bind(allowance=key, gflop="150")
    assert await scripts.call(client, charge) == 1
    await limiter.take(ApiKey("budget", (), requests=Allowance(5, 1)))
    assert await scripts.call(client, charge) == 0


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_while_redis_is_away_each_front_end_counts_alone(is_noticed: bool) -> None:
    front = QueueClient(Settings(engine="redis", redis_url="redis://127.0.0.1:1"), metrics())
    front._away = is_noticed
    limiter = RedisLimiter(front)
    grants = [await limiter.take(RATED) for _ in range(6)]
    assert [grant.wait == 0 for grant in grants] == [True] * 5 + [False]
    await front.stop()
