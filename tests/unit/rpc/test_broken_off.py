"""A gRPC answer that its caller does not get whole, and a stream that is cut, are not counted or logged as answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2
from service.core.errors import Unavailable
from service.rpc import message_reading
from tests.unit.rest.wired import until
from tests.unit.rpc.serving import LARGE, Served, served
from tests.unit.rpc.small import SmallEngine, picture

#: What a client's HTTP/2 window lets through, and more.
CUT_AFTER = 200_000


def _frame(side: int = 32, seed: int = 0) -> pb.Frame:
    return pb.Frame(raw=pb.RawPicture(pixels=picture(seed, side, side).tobytes(), height=side, width=side))


def _message(seed: int) -> pb.StreamPredictRequest:
    return pb.StreamPredictRequest(frame=_frame(seed=seed))


def outcomes(service: Served, endpoint: str) -> dict[str, float]:
    """How often each outcome of an endpoint was counted."""
    return {
        sample.labels["outcome"]: sample.value
        for family in service.parts.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "dmvfn_requests_total" and sample.labels["endpoint"] == endpoint
    }


@asynccontextmanager
async def cutting_link(port: int, after: int) -> AsyncIterator[int]:
    """A way to the server that breaks once `after` bytes of answers have passed; yields its port."""

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, most: float) -> None:
            count = 0
            while count <= most and (data := await source.read(65536)):
                count += len(data)
                sink.write(data)
                await sink.drain()
            server_writer.transport.abort()
            writer.transport.abort()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, server_writer, float("inf")), pass_on(server_reader, writer, after))

    server = await asyncio.start_server(link, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_client_that_is_gone_within_a_large_answer_was_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    pair = pb.PredictRequest(previous=_frame(512), current=_frame(512), options=pb.Options(steps=8))
    with caplog.at_level(logging.INFO, "service.access"):
        async with served(SmallEngine()) as s, cutting_link(s.server.port, CUT_AFTER) as port:
            options = [*LARGE, ("grpc.enable_retries", 0)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.Predict(pair)
                await until(lambda: outcomes(s, "Predict") != {})
            assert outcomes(s, "Predict") == {"cancelled": 1}
            await s.ours.Predict(pair)
            await until(lambda: outcomes(s, "Predict") == {"cancelled": 1, "ok": 1})
    assert [vars(record)["outcome"] for record in caplog.records] == ["cancelled", "ok"]


async def test_a_stream_whose_client_leaves_is_cancelled_though_it_is_owed_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_reading, "LEAVING_S", 60.0)  # however busy the machine is
    async with served(SmallEngine()) as s:
        left = s.ours.StreamPredict()
        await left.write(_message(0))
        await left.read()
        left.cancel()
        await until(lambda: outcomes(s, "StreamPredict") == {"cancelled": 1})
        other = s.v2.ModelStreamInfer()
        await other.write(inference_pb2.ModelInferRequest())
        await other.read()
        other.cancel()
        await until(lambda: outcomes(s, "ModelStreamInfer") == {"cancelled": 1})


async def test_streams_are_counted_by_how_they_ended() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        whole = s.ours.StreamPredict(iter([_message(0)]))
        assert len([answer async for answer in whole]) == 1
        engine.gate.clear()
        left = s.ours.StreamPredict()
        for n in range(2):
            await left.write(_message(n))
        await left.read()
        await until(lambda: engine.asked != [])
        left.cancel()
        await until(lambda: outcomes(s, "StreamPredict") == {"ok": 1, "cancelled": 1})
        engine.gate.set()
        wrong = s.ours.StreamPredict(iter([pb.StreamPredictRequest(start=pb.StreamStart(horizon=99))]))
        with pytest.raises(grpc.aio.AioRpcError):
            await wrong.read()
        await until(lambda: outcomes(s, "StreamPredict") == {"ok": 1, "cancelled": 1, "invalid": 1})
        # It takes no part in how long requests take.
        labels = {"transport": "grpc", "endpoint": "StreamPredict"}
        count = s.parts.metrics.registry.get_sample_value("dmvfn_request_duration_seconds_count", labels)
        assert count is None


async def test_a_stream_that_we_cut_when_the_grace_is_over_is_an_error() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        engine.gate.clear()
        call = s.ours.StreamPredict()
        for n in range(2):
            await call.write(_message(n))
        await call.read()
        await until(lambda: engine.asked != [])
        await s.server.drain(0.05)
        await until(lambda: outcomes(s, "StreamPredict") != {})
        assert outcomes(s, "StreamPredict") == {"error": 1}


async def test_a_stream_that_falls_silent_misses_no_objective_of_ours() -> None:
    for idle_s in (0.05, 0.5, 5.0):  # on a busy machine the first message may come later than that
        async with served(SmallEngine(), stream_idle_s=idle_s) as s:
            call = s.ours.StreamPredict()
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call.write(_message(0))
                assert (await call.read()).WhichOneof("outcome") == "first"
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call.read()
                break
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: outcomes(s, "StreamPredict") == {"cancelled": 1})


async def test_a_stream_for_which_there_is_no_room_is_counted_as_refused() -> None:
    async with served(SmallEngine(), max_streams=1) as s:
        first = s.ours.StreamPredict()
        await first.write(_message(0))
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError):
            await s.ours.StreamPredict(iter([_message(0)])).read()
        await until(lambda: outcomes(s, "StreamPredict") == {"rejected": 1})
        first.cancel()


async def test_an_open_protocols_stream_that_fails_is_counted_too() -> None:
    async with served(SmallEngine()) as s:

        def refuse(*_: object, **__: object) -> None:
            raise Unavailable("no more", reason="draining")

        s.parts.streams.place = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(grpc.aio.AioRpcError):
            await s.v2.ModelStreamInfer(iter([])).read()
        await until(lambda: outcomes(s, "ModelStreamInfer") == {"rejected": 1})
