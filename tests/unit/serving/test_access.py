"""The one policy of who may ask: scopes, rates, and budgets that predictions are charged to."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from service.core.api_keys import KeyRing, Scope, read_keys
from service.core.errors import PermissionDenied, RateLimited, Unauthenticated
from service.core.types import PredictRequest
from service.serving.access import AccessPolicy, ChargingEngine, LocalLimiter
from service.telemetry.metrics import Metrics
from tests.unit.distributed.engines import Adder, frame

WEB, BATCH, FREE = "web-key-1", "batch-key-1", "free-key-1"
RING = read_keys(
    f"""
    [web]
    key = "{WEB}"
    scopes = ["predict", "streams"]
    requests_per_s = 2
    [batch]
    key = "{BATCH}"
    gflop = 100
    gflop_window_s = 50
    [free]
    key = "{FREE}"
    """
)


class Clock:
    """Seconds, set by the test."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ruled:
    """A policy with its clock, limiter and metrics."""

    def __init__(self, keys: KeyRing = RING) -> None:
        self.clock = Clock()
        self.limiter = LocalLimiter(self.clock)
        self.metrics = Metrics(CollectorRegistry())
        self.policy = AccessPolicy(keys, self.limiter, self.metrics)

    async def refusal(self, key: str, scope: Scope | None = Scope.PREDICT) -> object:
        return (await self.policy.admit(key, scope)).refusal

    def count(self, reason: str) -> float:
        sample = self.metrics.registry.get_sample_value("dmvfn_rejected_total", {"reason": reason, "bucket": "none"})
        return sample or 0.0


async def test_without_keys_nobody_is_asked_for_one() -> None:
    ruled = Ruled(KeyRing())
    assert ruled.policy.is_open
    assert (await ruled.policy.admit(None, Scope.ADMIN)).client == ""
    await ruled.policy.admit_next("", Scope.STREAMS)


async def test_a_key_without_limits_has_none() -> None:
    ruled = Ruled()
    for _ in range(100):
        decision = await ruled.policy.admit(FREE, Scope.ADMIN)
        assert (decision.client, decision.quotas, decision.refusal) == ("free", (), None)


async def test_a_scope_is_checked_before_anything_is_counted() -> None:
    ruled = Ruled()
    for _ in range(5):
        assert isinstance(await ruled.refusal(WEB, Scope.JOBS), PermissionDenied)
    assert await ruled.refusal(WEB) is None


async def test_requests_beyond_the_rate_are_told_when_to_come_back() -> None:
    ruled = Ruled()
    assert [await ruled.refusal(WEB) for _ in range(2)] == [None, None]
    refusal = await ruled.refusal(WEB, None)
    assert isinstance(refusal, RateLimited)
    assert (refusal.reason, refusal.retry_after) == ("requests", 0.5)
    assert ruled.count("rate_requests") == 1
    ruled.clock.now += 0.5
    assert await ruled.refusal(WEB) is None


async def test_a_prediction_is_charged_when_it_is_made_and_its_debt_waited_for() -> None:
    ruled = Ruled()
    decision = await ruled.policy.admit(BATCH, Scope.PREDICT)
    assert [quota.remaining for quota in decision.quotas] == [100]
    ruled.limiter.charge("batch", 300 * 10**9)
    refusal = await ruled.refusal(BATCH)
    assert isinstance(refusal, RateLimited)
    # 200 of debt and the one that must be there, at two a second.
    assert (refusal.reason, refusal.retry_after) == ("gflop", 100.5)
    ruled.clock.now += 100.5
    assert await ruled.refusal(BATCH) is None


async def test_the_engine_charges_whoever_a_prediction_was_for() -> None:
    charges: list[tuple[str, int]] = []
    engine = ChargingEngine(Adder(), lambda client, flops: charges.append((client, flops)))
    await engine.predict(PredictRequest("r", frame(1), frame(2), client="batch"))
    assert charges == [("batch", 1000)]


async def test_a_callers_further_messages_are_counted_and_a_withdrawn_key_is_noticed() -> None:
    ruled = Ruled()
    await ruled.policy.admit(WEB, Scope.STREAMS)
    await ruled.policy.admit_next("web", Scope.STREAMS)
    with pytest.raises(RateLimited):
        await ruled.policy.admit_next("web", Scope.STREAMS)
    ruled.policy.use(read_keys(f'[web]\nkey = "{WEB}"\nscopes = ["predict"]'))
    with pytest.raises(PermissionDenied):
        ruled.policy.require("web", Scope.STREAMS)
    ruled.policy.use(read_keys(f'[other]\nkey = "{WEB}"'))
    with pytest.raises(Unauthenticated):
        await ruled.policy.admit_next("web", Scope.STREAMS)


async def test_a_key_that_another_has_replaced_under_its_name_is_withdrawn() -> None:
    ruled = Ruled()
    decision = await ruled.policy.admit(WEB, Scope.STREAMS)
    ruled.policy.use(read_keys(f'[web]\nkey = ["{WEB}", "the-next-key"]'))
    ruled.policy.require("web", Scope.STREAMS, decision.key_digest)  # both, while one replaces the other
    ruled.policy.use(read_keys('[web]\nkey = "the-next-key"'))
    with pytest.raises(Unauthenticated):
        ruled.policy.require("web", Scope.STREAMS, decision.key_digest)
    with pytest.raises(Unauthenticated):
        await ruled.policy.admit_next("web", Scope.STREAMS, decision.key_digest)
    assert WEB not in repr(decision)
    assert "key_digest" not in repr(decision)


async def test_other_limits_hold_from_the_next_request_on_and_debts_stay() -> None:
    ruled = Ruled()
    await ruled.policy.admit(BATCH, None)
    ruled.limiter.charge("batch", 150 * 10**9)
    ruled.policy.use(read_keys(f'[batch]\nkey = "{BATCH}"\ngflop = 1000\ngflop_window_s = 10'))
    refusal = await ruled.refusal(BATCH)
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == pytest.approx(0.51)
