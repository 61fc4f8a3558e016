"""Trace context is continued, and spans reach a real OTLP receiver."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc

from service.telemetry.tracing import Tracer, begin

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_callers_trace_is_continued_with_a_span_of_our_own() -> None:
    trace = begin(PARENT, random=lambda n: b"\x01" * n)
    assert trace.traceparent == "00-0af7651916cd43dd8448eb211c80319c-0101010101010101-01"
    assert trace.parent_id == "b7ad6b7169203331"


@pytest.mark.parametrize(
    "header", [None, "", "nonsense", PARENT.replace("00-", "ff-", 1), "00-" + "0" * 32 + "-b7ad6b7169203331-01"]
)
def test_without_a_usable_header_a_new_trace_begins(header: str | None) -> None:
    trace = begin(header)
    assert trace.parent_id is None
    assert begin(trace.traceparent).trace_id == trace.trace_id


class _Receiver(rpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[object] = []
        self.came = threading.Event()

    def Export(  # the name is the protocol's
        self, request: messages.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> messages.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.came.set()
        return messages.ExportTraceServiceResponse()


@pytest.fixture
def receiver() -> Iterator[tuple[_Receiver, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    servicer = _Receiver()
    rpc.add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated code
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def test_a_request_and_its_stages_arrive_as_linked_spans(receiver: tuple[_Receiver, str]) -> None:
    servicer, endpoint = receiver
    tracer = Tracer.to(endpoint, "1.0")
    trace = begin(PARENT)
    tracer.finished(trace, "POST /v1/predict", 0.5, {"dmvfn.route": "100000001"}, [("queue", 0.1), ("blocks", 0.3)])
    tracer.finished(begin(PARENT[:-1] + "0"), "not sampled", 0.1, {})
    tracer.close()
    assert servicer.came.wait(60)
    request, queue, blocks = servicer.spans
    assert [span.name for span in servicer.spans] == ["POST /v1/predict", "queue", "blocks"]  # type: ignore[attr-defined]
    assert request.trace_id.hex() == trace.trace_id  # type: ignore[attr-defined]
    assert request.parent_span_id.hex() == "b7ad6b7169203331"  # type: ignore[attr-defined]
    assert queue.parent_span_id == blocks.parent_span_id == request.span_id  # type: ignore[attr-defined]
    assert blocks.start_time_unix_nano == queue.end_time_unix_nano  # type: ignore[attr-defined]
