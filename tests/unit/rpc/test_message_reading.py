"""What a call may hold before and while its message is read."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.core.errors import Internal, QueueFull, ServiceError
from service.rpc import health, message_reading
from service.rpc.half_sent import WINDOW, HalfSentMessages
from service.rpc.message_reading import ReadingInterceptor, ReadingPlaces
from service.settings import Settings
from tests.measured import UpperBounds
from tests.unit.memory import peak_mib
from tests.unit.rpc.serving import Served, served
from tests.unit.rpc.small import SmallEngine, parts, picture

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
    async with served(SmallEngine(), api_keys=(("anna", "correct-horse"),)) as s, asyncio.timeout(60):
        assert await refusal(silent(s)) == grpc.StatusCode.UNAUTHENTICATED


async def test_a_message_that_does_not_come_is_waited_for_as_long_as_a_body() -> None:
    async with served(SmallEngine(), body_timeout_s=0.2) as s, asyncio.timeout(Settings().body_timeout_s / 2):
        assert await refusal(silent(s)) == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_one_caller_that_sends_nothing_leaves_room_to_read_others() -> None:
    keys = (("anna", "correct-horse"), ("bob", "battery-staple"))
    settings: dict[str, Any] = {
        "api_keys": keys,
        "max_body_bytes": 2**20,
        "max_queue_bytes": 8 * 2**20,
    }
    # Sooner than those who send nothing are given up.
    async with served(SmallEngine(), **settings) as s, asyncio.timeout(Settings().body_timeout_s / 2):
        slow = [silent(s, KEY) for _ in range(20)]
        await asyncio.sleep(0.1)
        answer = await s.ours.Predict(request(32), metadata=(("authorization", "Bearer battery-staple"),))
        assert answer.prediction.frames
        for call in slow:
            call.cancel()


async def test_messages_frames_and_answers_of_all_calls_are_bounded_together() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    async with served(engine, max_inflight_bytes=400_000, max_body_bytes=100_000) as s:
        other = s.parts.budget.open()
        other.grow(150_000)
        first = asyncio.ensure_future(s.ours.Predict(request(128)))
        async with asyncio.timeout(60):
            while not engine.running:
                await asyncio.sleep(0)
        assert await refusal(s.ours.Predict(request(128))) == grpc.StatusCode.RESOURCE_EXHAUSTED
        other.release()
        engine.gate.set()
        assert (await first).prediction.frames
        await s.ours.Predict(request(128))
        async with asyncio.timeout(60):
            while s.parts.budget.held:
                await asyncio.sleep(0)


@asynccontextmanager
async def process(**settings: Any) -> AsyncIterator[tuple[int, int]]:
    """A server in a process of its own: its process id and port."""
    command = [sys.executable, "-m", "tests.unit.rpc.process", json.dumps(settings)]
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield server.pid, int(await server.stdout.readline())
    finally:
        server.stdin.close()
        async with asyncio.timeout(60):
            await server.wait()


@pytest.mark.measured
@pytest.mark.parametrize(("size_mib", "status"), [(22, "RESOURCE_EXHAUSTED"), (5, "INVALID_ARGUMENT")])
async def test_messages_on_their_way_in_take_no_more_than_the_budget_again(size_mib: int, status: str) -> None:
    """Without keys anybody may send; grpcio holds a message three times while it reads it."""
    budget_mib = 24
    limits = {"max_inflight_bytes": budget_mib * 2**20, "max_body_bytes": budget_mib * 2**20}
    message = bytes([0xFF]) * (size_mib * 2**20)
    # One call's share is the budget's; what the allocator keeps of what it was given back comes on top.
    bounds = UpperBounds(held_mib=2 * budget_mib)
    while bounds.unmet():  # each time in a process that has given nothing back yet
        async with process(**limits) as (pid, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            predict = channel.unary_unary(PREDICT)
            assert await refusal(predict(b"")) == grpc.StatusCode.INVALID_ARGUMENT
            idle = peak_mib(pid, reset=True)
            codes = await asyncio.gather(*(refusal(predict(message)) for _ in range(12)))
            assert {code.name for code in codes} == {status}
            bounds.measured(held_mib=peak_mib(pid) - idle)


class Body(list[int]):
    """Bytes that can be watched: bytes themselves cannot."""


class Requests:
    """A call's messages as grpcio hands them over, keeping none."""

    def __init__(self, *bodies: Body) -> None:
        self._bodies = list(bodies)

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Body:
        if not self._bodies:
            raise StopAsyncIteration
        return self._bodies.pop(0)


async def test_a_streams_message_is_let_go_of_when_it_has_been_parsed() -> None:
    """The bytes it came as are not counted: they would stand beside what was parsed from them."""
    joined = parts(SmallEngine())
    watched: list[weakref.ref[Body]] = []

    def parse(data: bytes) -> str:
        return f"{len(data)} bytes"

    def requests() -> Requests:
        bodies = Body([1, 2, 3]), Body([4, 5, 6, 7])
        watched.extend(map(weakref.ref, bodies))
        return Requests(*bodies)

    async def behaviour(messages: AsyncIterator[str], _: Any) -> None:
        assert await anext(messages) == "3 bytes"
        assert (joined.budget.held, watched[0]()) == (3, None)
        assert await anext(messages) == "4 bytes"
        assert (joined.budget.held, watched[1]()) == (4, None)

    await ReadingInterceptor(joined)._stream(behaviour, parse)(requests(), OneCall())
    assert joined.budget.held == 0
    joined.codecs.close()


async def test_a_streams_end_waits_for_the_news_that_its_client_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC may tell of a cancelled stream first that no more messages come."""
    monkeypatch.setattr(message_reading, "LEAVING_S", 60.0)
    joined = parts(SmallEngine())
    taken: list[Body] = []

    async def behaviour(messages: AsyncIterator[Body], _: Any) -> None:
        taken.extend([message async for message in messages])

    requests, reader = Requests(Body([1, 2, 3])), ReadingInterceptor(joined)
    serving = asyncio.ensure_future(reader._stream(behaviour, lambda data: data)(requests, OneCall()))
    while requests._bodies:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    joined.codecs.close()


class OneCall:
    """A call of one message, as grpcio's context shows it."""

    async def read(self) -> Body:
        return Body([1, 2, 3])

    async def write(self, answer: object) -> None:
        """Send it nowhere."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class SilentCall(OneCall):
    """A call whose client sends nothing, and no more."""

    async def read(self) -> Any:
        return grpc.aio.EOF


async def test_a_call_without_a_message_waits_for_the_news_that_its_client_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was counted as the caller's fault."""
    monkeypatch.setattr(message_reading, "LEAVING_S", 60.0)
    joined = parts(SmallEngine())

    async def behaviour(message: object, context: object) -> None:
        raise AssertionError("it has no message to answer")

    handler, details = grpc.unary_unary_rpc_method_handler(behaviour), SimpleNamespace(method=PREDICT)
    serving = asyncio.ensure_future(ReadingInterceptor(joined)._one(handler, details, bytes)(None, SilentCall()))
    for _ in range(20):
        await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    joined.codecs.close()


async def test_a_call_may_let_go_of_its_message_before_its_answer() -> None:
    joined = parts(SmallEngine())

    async def behaviour(message: Body, context: object) -> str:
        watched = weakref.ref(message)
        del message
        assert watched() is None
        return "answer"

    handler = grpc.unary_unary_rpc_method_handler(behaviour)
    details = SimpleNamespace(method=PREDICT)
    await ReadingInterceptor(joined)._one(handler, details, lambda data: data)(None, OneCall())
    joined.codecs.close()


async def test_a_call_that_fails_leaves_another_with_the_same_error_alone() -> None:
    """The engine raises one error for all that it cannot run any more; each answers it in its own time."""
    joined = parts(SmallEngine())
    error, may_answer = Internal("the device is gone"), asyncio.Event()

    async def another() -> str:
        try:
            raise error
        except ServiceError as failure:
            await may_answer.wait()
            return str(failure)

    waiting = asyncio.create_task(another())
    await asyncio.sleep(0)

    async def behaviour(message: Body, context: object) -> None:
        raise error

    handler = grpc.unary_unary_rpc_method_handler(behaviour)
    details = SimpleNamespace(method=PREDICT)
    with pytest.raises(Internal):
        await ReadingInterceptor(joined)._one(handler, details, lambda data: data)(None, OneCall())
    may_answer.set()
    async with asyncio.timeout(60):
        assert await waiting == "the device is gone"
    joined.codecs.close()


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
        looks, begun = 0, time.monotonic()
        async with asyncio.timeout(60):
            while looks < 3:
                await asyncio.sleep(0.01)
        assert looks <= (time.monotonic() - begun) / health.EVERY_S + 1, "each look is everybody's"
        for watch in watches:
            watch.cancel()


async def test_one_message_too_many_that_waits_to_be_read_is_refused_at_once() -> None:
    """Each may have sent HTTP/2's window: as many wait as have room for that."""
    reading = ReadingPlaces(1, 60.0, HalfSentMessages(2 * WINDOW, WINDOW, lambda peer: None))
    gate = asyncio.Event()

    async def read() -> bytes:
        await gate.wait()
        return b"whole"

    async def message(caller: str) -> Any:
        with ExitStack() as call:
            return await reading.next(SimpleNamespace(peer=lambda: "unix:", read=read), caller, bytes, call)

    waiting = [asyncio.create_task(message(caller)) for caller in ("one", "two", "three")]
    await asyncio.sleep(0)
    refused = await message("four")
    assert isinstance(refused.error, QueueFull)
    gate.set()
    assert await asyncio.gather(*waiting) == [b"whole"] * 3
    assert await message("five") == b"whole"
