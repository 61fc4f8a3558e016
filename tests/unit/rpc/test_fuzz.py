"""Hostile protobufs, valid on the wire or not: never INTERNAL, and nobody else's connection suffers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2 as v2_pb
from proto.inference import inference_pb2_grpc
from tests.system.e2e.joined import joined
from tests.unit.rpc.small import picture

#: What a caller's fault may be answered with; INTERNAL and UNKNOWN would say that it was ours.
FAULTS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

_EDGES = {
    FieldDescriptor.CPPTYPE_INT32: [0, 1, -1, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_UINT32: [0, 1, 16, 2**32 - 1],
    FieldDescriptor.CPPTYPE_INT64: [0, 1, 2, 3, 16, -1, 2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_UINT64: [0, 1, 2**53, 2**64 - 1],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 2, 5, 99, -1],
}
_TEXTS = ["", "auto", "full", "111000111", "dmvfn", "dmvfn_image", "FRAMES", "FRAME0", "UINT8", "BYTES", "PRED", "é\0"]


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return _fields(field.message_type, depth - 1)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return st.floats(width=32)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=200) | st.just(picture(0, 16, 16).tobytes())
        return st.sampled_from(_TEXTS) | st.text(max_size=300)
    return st.sampled_from(_EDGES[kind])


def _fields(descriptor: Any, depth: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Some fields of a message with values that fit the wire and little else."""
    fields = [field for field in descriptor.fields if depth > 0 or field.message_type is None]
    choices: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            choices[field.name] = st.dictionaries(_values(key, depth), _values(value, depth), max_size=3)
        elif field.is_repeated:
            choices[field.name] = st.lists(_values(field, depth), max_size=3)
        else:
            choices[field.name] = _values(field, depth)
    return st.fixed_dictionaries({}, optional=choices)


def _raw(seed: int) -> pb.Frame:
    return pb.Frame(raw=pb.RawPicture(pixels=picture(seed, 16, 16).tobytes(), height=16, width=16))


def _pair() -> pb.PredictRequest:
    return pb.PredictRequest(previous=_raw(0), current=_raw(1))


def _infer() -> v2_pb.ModelInferRequest:
    tensor = v2_pb.ModelInferRequest.InferInputTensor(name="FRAMES", datatype="UINT8", shape=[1, 2, 16, 16, 3])
    pixels = picture(0, 32, 16).tobytes()
    return v2_pb.ModelInferRequest(model_name="dmvfn", inputs=[tensor], raw_input_contents=[pixels])


def _spoiled(make: Callable[[], Message]) -> st.SearchStrategy[Message]:
    """A hostile message, alone or merged into a good one, so that it also gets past the first checks."""

    def build(fields: dict[str, Any], merged: bool) -> Message:
        good = make()
        hostile = type(good)(**fields)
        if not merged:
            return hostile
        good.MergeFrom(hostile)
        return good

    return st.builds(build, _fields(make().DESCRIPTOR), st.booleans())


class _Canary:
    """Somebody else's stream on a connection of its own, open the whole time."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._go = threading.Semaphore(0)
        self._count = 0
        stub = dmvfn_pb2_grpc.PredictionServiceStub(self._channel)  # type: ignore[no-untyped-call]
        start = pb.StreamStart(scene_cuts=False)

        def frames() -> Iterator[pb.StreamPredictRequest]:
            yield pb.StreamPredictRequest(start=start)
            while True:
                self._go.acquire()
                yield pb.StreamPredictRequest(frame=_raw(self._count))

        self._stream = stub.StreamPredict(frames())

    def sings(self) -> bool:
        """Whether a frame sent now is answered by its prediction (the first one: by being the first)."""
        self._go.release()
        self._count += 1
        expected = "first" if self._count == 1 else "prediction"
        return bool(next(self._stream).WhichOneof("outcome") == expected)

    def close(self) -> None:
        """Give up the stream."""
        self._stream.cancel()
        self._channel.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A service in a thread of its own; the tests speak to it as strangers."""
    ready, told = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with joined(default_deadline_ms=5000, max_steps=3) as service:
            told.append(service.grpc)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(60)
    yield told[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def canary(address: str) -> Iterator[_Canary]:
    bird = _Canary(address)
    yield bird
    bird.close()


@pytest.fixture(scope="module")
def channel(address: str) -> Iterator[Any]:
    with grpc.insecure_channel(address) as opened:
        yield opened


def _status(call: Callable[[], Any]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@FUZZ
@given(message=_spoiled(_pair))
def test_hostile_pairs(message: pb.PredictRequest, channel: Any, canary: _Canary) -> None:
    stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
    assert _status(lambda: stub.Predict(message, timeout=60)) in FAULTS | {grpc.StatusCode.OK}
    assert canary.sings()


@FUZZ
@given(message=_spoiled(_infer))
def test_hostile_inference_requests(message: v2_pb.ModelInferRequest, channel: Any, canary: _Canary) -> None:
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
    assert _status(lambda: stub.ModelInfer(message, timeout=60)) in FAULTS | {grpc.StatusCode.OK}
    [answer] = stub.ModelStreamInfer(iter([message]), timeout=60)
    assert not answer.error_message.startswith("internal")
    assert canary.sings()


@FUZZ
@given(
    messages=st.lists(
        _spoiled(lambda: pb.StreamPredictRequest(frame=_raw(0))) | _spoiled(lambda: pb.StreamPredictRequest()),
        max_size=6,
    )
)
def test_hostile_streams(messages: list[pb.StreamPredictRequest], channel: Any, canary: _Canary) -> None:
    stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
    answers: list[pb.StreamPredictResponse] = []
    status = _status(lambda: answers.extend(stub.StreamPredict(iter(messages), timeout=60)))
    assert status in FAULTS | {grpc.StatusCode.OK}
    assert grpc.StatusCode.INTERNAL.value[0] not in {answer.error.status for answer in answers}
    if status is grpc.StatusCode.OK:
        starts = sum(message.WhichOneof("message") == "start" for message in messages[:1])
        resets = sum(message.WhichOneof("message") == "reset" for message in messages)
        assert len(answers) == len(messages) - starts - resets
    assert canary.sings()


@FUZZ
@given(
    data=st.binary(max_size=300) | st.builds(lambda n: _pair().SerializeToString()[:n], st.integers(0, 1700)),
    method=st.sampled_from(
        ["dmvfn.v1.PredictionService/Predict", "inference.GRPCInferenceService/ModelInfer", "dmvfn.v1.Other/X"]
        + [f"inference.GRPCInferenceService/{name}" for name in ("ModelConfig", "ModelStatistics", "ModelMetadata")]
    ),
)
def test_bytes_of_any_kind(data: bytes, method: str, channel: Any, canary: _Canary) -> None:
    assert _status(lambda: channel.unary_unary(f"/{method}")(data, timeout=60)) in FAULTS | {grpc.StatusCode.OK}
    assert canary.sings()
