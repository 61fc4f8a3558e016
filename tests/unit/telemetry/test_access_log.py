"""One form of log line and span, whatever edge a request came by."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.telemetry import access_log, tracing
from service.telemetry.access_log import AccessRecord
from service.telemetry.metrics import Outcome
from service.telemetry.request_context import RequestContext, choose_id
from service.telemetry.tracing import Tracer
from tests.unit.serving.edges import running


def test_the_first_id_that_can_stand_anywhere_is_chosen() -> None:
    assert choose_id("a\nb", "", None, "mine", "other") == "mine"
    assert len({choose_id("../etc", None) for _ in range(5)}) == 5


def test_a_line_and_its_span_tell_the_same(caplog: pytest.LogCaptureFixture) -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    context = RequestContext("id", 0.0, tracing.begin(None), "anna", "internal", (("decode", 0.5),), {"width": 7})
    with caplog.at_level(logging.INFO, "service.access"):
        access_log.write(
            context,
            tracer,
            AccessRecord(
                title="POST /x 500",
                span="POST /x",
                endpoint="/x",
                outcome=Outcome.ERROR,
                seconds=1.0,
                transport_notes={"status": 500},
                sizes={"bytes_in": 3},
            ),
        )
    tracer.close()
    [record] = caplog.records
    fields = {"request_id": "id", "client": "anna", "outcome": "error", "code": "internal", "duration_ms": 1000.0}
    fields |= {"endpoint": "/x", "status": 500, "bytes_in": 3, "width": 7, "trace_id": context.trace.trace_id}
    assert {name: getattr(record, name) for name in fields} == fields
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "POST /x 500")
    by_name = {span.name: span for span in exporter.get_finished_spans()}
    assert set(by_name) == {"POST /x", "decode"}
    assert dict(by_name["POST /x"].attributes or {}) == {"endpoint": "/x", "status": 500, "width": 7}


async def test_every_edge_logs_the_same_fields(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path) as edges:
        with caplog.at_level(logging.INFO, "service.access"):
            for edge in ("rest", "rpc", "oip_rest", "oip_rpc"):
                assert (await edges.ask(edge)).picture
    lines = [vars(record) for record in caplog.records if record.name == "service.access"]
    common = {"request_id", "trace_id", "client", "outcome", "code", "duration_ms", "endpoint", "route", "flops"}
    common |= {"batch_size", "width", "height", "decode_ms", "queue_ms", "encode_ms", "spare_ms"}
    assert len(lines) == 4
    for line in lines:
        assert common <= set(line), line["endpoint"]
