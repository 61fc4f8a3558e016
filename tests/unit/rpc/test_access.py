"""Keys with scopes and limits over gRPC: statuses, what trailers tell, and streams that outlive their keys."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.inference import inference_pb2
from service.core.api_keys import read_keys
from tests.unit.rpc.serving import served
from tests.unit.rpc.small import SmallEngine, picture

RING = read_keys(
    """
    [limited]
    key = "limited-key"
    requests_per_s = 0.5
    burst = 2
    [viewer]
    key = "viewer-key"
    scopes = []
    [streamer]
    key = "streamer-key"
    scopes = ["streams"]
    requests_per_s = 0.001
    burst = 3
    """
)


def _frame(seed: int) -> pb.Frame:
    return pb.Frame(raw=pb.RawPicture(pixels=picture(seed, 32, 32).tobytes(), height=32, width=32))


PAIR = pb.PredictRequest(previous=_frame(0), current=_frame(1))


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def _details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """A status's details by their names."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.QuotaFailure)
    found = {}
    for kind in kinds:
        for detail in status.details:
            message = kind()
            if detail.Unpack(message):
                found[kind.DESCRIPTOR.name] = message
    return found


async def test_a_missing_scope_is_permission_denied_and_named() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        s.parts.access.use(RING)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await s.ours.Predict(PAIR, metadata=bearer("viewer-key"))
        with pytest.raises(grpc.aio.AioRpcError) as stream_error:
            await s.v2.ModelStreamInfer(iter([]), metadata=bearer("viewer-key")).read()
        await s.v2.ServerMetadata(inference_pb2.ServerMetadataRequest(), metadata=bearer("viewer-key"))
    assert (error.value.code(), stream_error.value.code()) == (grpc.StatusCode.PERMISSION_DENIED,) * 2
    assert "'predict'" in (error.value.details() or "")
    assert _details(error.value)["ErrorInfo"].reason == "SCOPE_PREDICT"
    assert engine.asked == []


async def test_trailers_tell_the_same_as_http_headers_do() -> None:
    async with served(SmallEngine()) as s:
        s.parts.access.use(RING)
        call = s.ours.Predict(PAIR, metadata=bearer("limited-key"))
        await call
        trailers = dict(await call.trailing_metadata())
    assert trailers["ratelimit-policy"] == '"requests";q=2;w=4'
    assert trailers["ratelimit"] == '"requests";r=1;t=2'


async def test_beyond_the_rate_it_is_resource_exhausted_with_the_time_to_wait() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        s.parts.access.use(RING)
        for _ in range(2):
            await s.ours.Predict(PAIR, metadata=bearer("limited-key"))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await s.ours.Predict(PAIR, metadata=bearer("limited-key"))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = _details(error.value)
    assert details["ErrorInfo"].metadata["code"] == "rate_limited"
    assert 1 < details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 2
    assert details["QuotaFailure"].violations[0].subject == "limited"
    assert dict(error.value.trailing_metadata() or ())["ratelimit"].startswith('"requests";r=0;')
    # Refused once, counted once: the third was no fourth.
    assert len(engine.asked) == 2


def _messages(count: int) -> list[pb.StreamPredictRequest]:
    start = pb.StreamStart(policy=pb.POLICY_ALL, scene_cuts=False)
    frames = [pb.StreamPredictRequest(frame=_frame(n)) for n in range(count)]
    return [pb.StreamPredictRequest(start=start), *frames]


async def test_each_pair_of_a_stream_counts_and_the_stream_goes_on() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        s.parts.access.use(RING)
        call = s.ours.StreamPredict(iter(_messages(5)), metadata=bearer("streamer-key"))
        answers = [answer async for answer in call]
        trailers = dict(await call.trailing_metadata())
    # Of the three that it may ask for, the call itself took one.
    kinds = ["first", "prediction", "prediction", "error", "error"]
    assert [answer.WhichOneof("outcome") for answer in answers] == kinds
    assert {answer.error.code for answer in answers[3:]} == {"rate_limited"}
    assert trailers["ratelimit"].startswith('"requests";r=2;')
    assert len(engine.asked) == 2


async def test_each_message_of_the_open_protocols_stream_counts() -> None:
    pixels = b"".join(picture(n, 16, 24).tobytes() for n in range(2))
    tensor = inference_pb2.ModelInferRequest.InferInputTensor(name="FRAMES", datatype="UINT8", shape=[1, 2, 16, 24, 3])
    message = inference_pb2.ModelInferRequest(model_name="dmvfn", inputs=[tensor], raw_input_contents=[pixels])
    async with served(SmallEngine()) as s:
        s.parts.access.use(RING)
        call = s.v2.ModelStreamInfer(iter([message] * 3), metadata=bearer("streamer-key"))
        errors = [answer.error_message.partition(":")[0] async for answer in call]
    assert errors == ["", "", "rate_limited"]


@pytest.mark.parametrize("name", ["other", "streamer"])  # the caller is gone, or has another key
async def test_a_withdrawn_key_ends_its_streams(name: str) -> None:
    async with served(SmallEngine()) as s:
        s.parts.access.use(RING)
        start, first, second, _ = _messages(3)
        call = s.ours.StreamPredict(metadata=bearer("streamer-key"))
        for message in (start, first):
            await call.write(message)
        assert (await call.read()).WhichOneof("outcome") == "first"
        s.parts.access.use(read_keys(f'[{name}]\nkey = "another-key"'))
        await call.write(second)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
