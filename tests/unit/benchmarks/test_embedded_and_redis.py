from __future__ import annotations

from benchmarks.embedded_and_redis import SleepingDevice, claim_cost, embedded, overhead, request
from tests.unit.distributed.servers import running


async def test_the_made_up_device_answers_through_the_real_engine() -> None:
    async with embedded(1e-5) as engine:
        result = await engine.predict(request(1, 10.0))
    assert [sum(step.route) for step in result.steps] == [9]
    assert result.model_version == SleepingDevice.info.version


async def test_a_claim_is_weighed_and_a_call_is_timed() -> None:
    with running() as server:
        assert (await claim_cost(server, sizes=20, claims=3)).endswith(" us")
    async with embedded(1e-5) as engine:
        assert (await overhead(engine, calls=3)).endswith(" ms")
