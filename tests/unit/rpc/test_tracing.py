"""gRPC calls continue their caller's trace, with the stages that REST has; a stream has a span for each frame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.inference import inference_pb2 as v2_pb
from service.telemetry.tracing import Tracer
from tests.unit.rpc.serving import Served, served
from tests.unit.rpc.small import SmallEngine, picture

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
METADATA = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
STAGES = ["decode", "queue", "route", "blocks", "encode"]


class Traced:
    """A served service and its spans."""

    def __init__(self, served: Served, engine: SmallEngine, exporter: InMemorySpanExporter) -> None:
        self.served, self.engine, self._exporter = served, engine, exporter

    def spans(self) -> list[ReadableSpan]:
        """In the order they ended. Only after `traced` is left: what is under way has no end."""
        return list(self._exporter.get_finished_spans())


@asynccontextmanager
async def traced() -> AsyncIterator[Traced]:
    exporter, engine = InMemorySpanExporter(), SmallEngine()
    tracer = Tracer(exporter)
    async with served(engine, tracer=tracer) as s:
        yield Traced(s, engine, exporter)
    tracer.close()


def _frame(n: int) -> pb.Frame:
    return pb.Frame(raw=pb.RawPicture(pixels=picture(n).tobytes(), height=32, width=48))


def _pair() -> pb.PredictRequest:
    return pb.PredictRequest(previous=_frame(0), current=_frame(1))


def _infer(batch: int = 1, model: str = "dmvfn") -> v2_pb.ModelInferRequest:
    pixels = np.stack([picture(n, 16, 24) for n in range(2 * batch)])
    tensor = v2_pb.ModelInferRequest.InferInputTensor(name="FRAMES", datatype="UINT8", shape=[batch, 2, 16, 24, 3])
    return v2_pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[pixels.tobytes()])


def _id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    assert f"{context.trace_id:032x}" == TRACE
    return f"{context.span_id:016x}"


def _children(spans: list[ReadableSpan], of: str) -> list[str]:
    return [span.name for span in spans if span.parent is not None and f"{span.parent.span_id:016x}" == of]


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_call_is_a_span_of_its_callers_trace_with_its_stages() -> None:
    async with traced() as t:
        call = t.served.ours.Predict(_pair(), metadata=METADATA)
        await call
        trailers = dict(tuple(pair) for pair in await call.trailing_metadata())
    spans = t.spans()
    [root] = [span for span in spans if span.name == "dmvfn.v1.PredictionService/Predict"]
    assert root.parent is not None
    assert (f"{root.parent.span_id:016x}", root.parent.is_remote, root.kind) == (PARENT, True, SpanKind.SERVER)
    assert _children(spans, _id(root)) == STAGES
    told = _attributes(root)
    assert (told["route"], told["width"], told["height"], told["batch_size"]) == ("1" * 9, 48, 32, 1)
    # What is passed on to workers, and told to the caller, is this call's own span.
    assert t.engine.asked[0].traceparent == trailers["traceparent"] == f"00-{TRACE}-{_id(root)}-01"


async def test_a_refused_call_is_a_span_with_its_code() -> None:
    async with traced() as t:
        with pytest.raises(grpc.aio.AioRpcError):
            await t.served.ours.Predict(pb.PredictRequest(), metadata=METADATA)
    [span] = t.spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "invalid_request")


async def test_a_caller_who_does_not_sample_leaves_no_span() -> None:
    async with traced() as t:
        await t.served.ours.Predict(_pair(), metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),))
    assert t.spans() == []


async def test_every_frame_of_a_stream_is_a_span_within_the_streams() -> None:
    start = pb.StreamStart(policy=pb.POLICY_ALL, scene_cuts=False)
    messages = [pb.StreamPredictRequest(start=start)]
    messages += [pb.StreamPredictRequest(frame=_frame(n)) for n in range(3)]
    messages.insert(2, pb.StreamPredictRequest(frame=pb.Frame(encoded=b"no picture")))
    async with traced() as t:
        answers = [answer async for answer in t.served.ours.StreamPredict(iter(messages), metadata=METADATA)]
    assert [answer.WhichOneof("outcome") for answer in answers] == ["first", "error", "first", "prediction"]
    spans = t.spans()
    [root] = [span for span in spans if span.name == "dmvfn.v1.PredictionService/StreamPredict"]
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == PARENT
    assert _children(spans, _id(root)) == ["frame", "frame"]
    bad, good = (span for span in spans if span.name == "frame")
    assert (bad.status.description, good.status.status_code) == ("unsupported_media", StatusCode.UNSET)
    assert good.parent is not None
    assert (good.kind, good.parent.is_remote) == (SpanKind.INTERNAL, False)
    assert _children(spans, _id(good)) == STAGES
    told = _attributes(root)
    counts = {name: count for name, count in told.items() if name.startswith("frames_")}
    assert counts == {"frames_first": 1, "frames_reset": 1, "frames_error": 1, "frames_predicted": 1}


async def test_a_v2_request_and_every_request_of_a_v2_stream_have_the_same_stages() -> None:
    async with traced() as t:
        await t.served.v2.ModelInfer(_infer(2), metadata=METADATA)
        stream = t.served.v2.ModelStreamInfer(iter([_infer(), _infer(model="x")]), metadata=METADATA)
        assert len([answer async for answer in stream]) == 2
    spans = t.spans()
    [single] = [span for span in spans if span.name == "inference.GRPCInferenceService/ModelInfer"]
    assert _children(spans, _id(single)) == STAGES
    [root] = [span for span in spans if span.name == "inference.GRPCInferenceService/ModelStreamInfer"]
    assert _children(spans, _id(root)) == ["infer", "infer"]
    good, bad = sorted((span for span in spans if span.name == "infer"), key=lambda span: span.status.is_ok is False)
    assert _children(spans, _id(good)) == STAGES
    assert bad.status.description == "not_found"
