"""What the middleware knows of a request."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import Request

from service.rest.app import build
from service.rest.transport import context
from service.telemetry.tracing import Tracer
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.small import Small


@pytest.mark.parametrize("given", ["a", "4f1c0f7e-8a27-4d0c", "Root=1-67891233-abcdef", "A.b_c:d/e+f=", "x" * 128])
def test_an_id_that_can_stand_in_a_header_is_kept(given: str) -> None:
    assert context.begin(given, None, 0.0).request_id == given


@pytest.mark.parametrize("given", [None, "", " a", "a\n", "é", "x" * 129, "../etc", "a;b", "{}"])
def test_any_other_is_replaced_by_a_fresh_one(given: str | None) -> None:
    first, second = context.begin(given, None, 0.0), context.begin(given, None, 0.0)
    assert first.request_id != second.request_id
    assert first.request_id != given


def test_a_router_without_a_door_gets_a_context_and_keeps_it() -> None:
    request = Request({"type": "http", "headers": [(b"x-request-id", b"abc")]})
    assert context.of(request).request_id == "abc"
    assert context.of(request) is context.of(request)


async def test_a_finished_request_is_traced_with_its_stages(small: Small, previous: Pixels, current: Pixels) -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    transport = httpx.ASGITransport(build(small.parts, tracer=tracer))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
        await http.post("/v1/predict", files=files, headers={"traceparent": parent})
    tracer.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"POST /v1/predict", "decode", "queue", "route", "blocks", "encode"}
    root = spans["POST /v1/predict"]
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert root.attributes is not None
    assert root.attributes["route"] == "111111111"
