"""What a device here predicts is charged to whoever it was for, call or job."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry

from service.backends import LocalBackend
from service.core.api_keys import ApiKey
from service.core.token_bucket import Allowance
from service.core.types import Options, PredictRequest, PredictResult
from service.serving.jobs.job import NewJob
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.distributed.engines import Adder, frame
from tests.unit.rest.wired import until

BUDGET = ApiKey("budget", (), gflop=Allowance(100, 1e-6))


class Costly(Adder):
    """Each prediction takes 10 GFLOP."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        result = await super().predict(request)
        return replace(result, steps=tuple(replace(step, flops=10**10) for step in result.steps))


async def test_calls_and_jobs_take_from_one_budget() -> None:
    host = LocalBackend(Settings(), Metrics(CollectorRegistry()), lambda error: None)
    host._batcher.predict = Costly().predict  # type: ignore[method-assign]  # the rest of it is not started

    def left() -> int:
        (quota,) = host.limiter.take_now(BUDGET).quotas
        return quota.remaining

    assert left() == 100
    await host.engine.predict(PredictRequest("r", frame(1), frame(2), Options(steps=2), client="budget"))
    assert left() == 80
    await host.engine.predict(PredictRequest("r", frame(1), frame(2), client="another"))
    frames = tuple(frame(n) for n in range(4))
    job = NewJob("job", "budget", frames, Options(), "fingerprint", None, None)
    await host.jobs.submit(job)
    await until(lambda: left() == 50)
    await host.jobs.close()
