"""What a call may hold before and while its message is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.rpc import health
from tests.unit.rpc.serving import Served, served
from tests.unit.rpc.small import SmallEngine, picture

PREDICT = "/dmvfn.v1.PredictionService/Predict"
KEY = (("authorization", "Bearer correct-horse"),)


async def nothing() -> AsyncIterator[bytes]:
    """A message that is announced and does not come."""
    await asyncio.Event().wait()
    yield b""


def silent(s: Served, metadata: Any = ()) -> Any:
    return s.channel.stream_unary(PREDICT)(nothing(), metadata=metadata)


def request(side: int) -> pb.PredictRequest:
    frame = pb.Frame(raw=pb.RawPicture(pixels=picture(0, side, side).tobytes(), height=side, width=side))
    return pb.PredictRequest(previous=frame, current=frame)


async def refusal(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


async def test_a_call_without_a_key_is_refused_before_its_message() -> None:
    async with served(SmallEngine(), api_keys=(("anna", "correct-horse"),)) as s, asyncio.timeout(5):
        assert await refusal(silent(s)) == grpc.StatusCode.UNAUTHENTICATED


async def test_a_message_that_does_not_come_is_waited_for_as_long_as_a_body() -> None:
    async with served(SmallEngine(), body_timeout_s=0.2) as s, asyncio.timeout(5):
        assert await refusal(silent(s)) == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_one_caller_that_sends_nothing_leaves_room_to_read_others() -> None:
    keys = (("anna", "correct-horse"), ("bob", "battery-staple"))
    settings: dict[str, Any] = {
        "api_keys": keys,
        "max_body_bytes": 2**20,
        "max_queue_bytes": 8 * 2**20,
        "body_timeout_s": 5.0,
    }
    async with served(SmallEngine(), **settings) as s, asyncio.timeout(4):
        slow = [silent(s, KEY) for _ in range(20)]
        await asyncio.sleep(0.1)
        answer = await s.ours.Predict(request(32), metadata=(("authorization", "Bearer battery-staple"),))
        assert answer.prediction.frames
        for call in slow:
            call.cancel()


async def test_messages_frames_and_answers_of_all_calls_are_bounded_together() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    async with served(engine, max_inflight_bytes=100_000, max_body_bytes=100_000) as s:
        first = asyncio.ensure_future(s.ours.Predict(request(128)))
        async with asyncio.timeout(5):
            while not engine.running:
                await asyncio.sleep(0)
        assert await refusal(s.ours.Predict(request(128))) == grpc.StatusCode.RESOURCE_EXHAUSTED
        engine.gate.set()
        assert (await first).prediction.frames
        await s.ours.Predict(request(128))
        async with asyncio.timeout(5):
            while s.parts.budget.held:
                await asyncio.sleep(0)


async def test_watches_are_bounded_and_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MOST_WATCHERS", 3)
    engine = SmallEngine()
    looks = 0
    readiness = engine.readiness

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return readiness()

    engine.readiness = counted  # type: ignore[method-assign]
    async with served(engine) as s:
        stub = health_pb2_grpc.HealthStub(s.channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        for watch in watches:
            await watch.read()
        assert await refusal(stub.Watch(health_pb2.HealthCheckRequest()).read()) == grpc.StatusCode.RESOURCE_EXHAUSTED
        looks = 0
        await asyncio.sleep(0.6)
        assert looks <= 3
        for watch in watches:
            watch.cancel()
