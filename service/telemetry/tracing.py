"""Trace context in and out (W3C traceparent), and spans to an OTLP endpoint where one is configured.

A request's spans are written once, when it is over, from the times its answer reports: nothing on the way
through the queue and the device thread has to carry a tracer.
Source: W3C Trace Context, https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

#: Name, start and end of a part of a request, seconds since the epoch.
Part = tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class Trace:
    """This process's place in a trace; ids are lower-case hex."""

    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool
    inner: bool = False  #: its parent is a span of this process

    @property
    def traceparent(self) -> str:
        """Return the header to pass on."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def begin(traceparent: str | None, random: Callable[[int], bytes] = os.urandom) -> Trace:
    """Continue the caller's trace, or start one where the header is absent or malformed (as the standard asks)."""
    match = _TRACEPARENT.match(traceparent.strip()) if traceparent else None
    if match is None:
        digits = random(24).hex()
        return Trace(digits[:32], digits[32:], None, True)
    return Trace(match[1], random(8).hex(), match[2], bool(int(match[3], 16) & 1))


def within(trace: Trace, random: Callable[[int], bytes] = os.urandom) -> Trace:
    """Return the place of a part that has stages of its own, such as one frame of a stream."""
    return Trace(trace.trace_id, random(8).hex(), trace.span_id, trace.sampled, inner=True)


class Tracer:
    """Exports finished requests; without an exporter it does nothing. `close` sends what is left."""

    def __init__(self, exporter: SpanExporter | None = None, version: str = "") -> None:
        self._processor = None
        if exporter is not None:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            self._processor = BatchSpanProcessor(exporter)
            self._resource = Resource.create({"service.name": "dmvfn", "service.version": version})

    @classmethod
    def to(cls, endpoint: str, version: str = "") -> Tracer:
        """Build a tracer for an OTLP gRPC endpoint such as http://localhost:4317; empty: one that does nothing."""
        if not endpoint:
            return cls()
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return cls(OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://")), version)

    def finished(
        self,
        trace: Trace,
        name: str,
        seconds: float,
        attributes: Mapping[str, str | int | float | bool],
        parts: Sequence[tuple[str, float]] = (),
        error: str | None = None,
    ) -> None:
        """Record a request that ended now and took `seconds`; `parts` are its stages in order, each with seconds."""
        if self._processor is None or not trace.sampled:
            return
        end = time.time()
        start = end - seconds
        self._send(trace, trace.span_id, trace.parent_id, (name, start, end), attributes, error)
        for stage, length in parts:
            part = (stage, start, min(end, start + length))
            self._send(trace, os.urandom(8).hex(), trace.span_id, part, {}, None)
            start = part[2]

    def part(
        self,
        trace: Trace,
        name: str,
        seconds: float,
        attributes: Mapping[str, str | int | float | bool],
        parts: Sequence[tuple[str, float]] = (),
        error: str | None = None,
    ) -> None:
        """Record a part of a call as `finished` does; the call's own end comes later."""
        if self._processor is not None:
            self.finished(within(trace), name, seconds, attributes, parts, error)

    def close(self) -> None:
        """Export what is queued; bounded by the exporter's own time-outs."""
        if self._processor is not None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK ships it so

    def _send(
        self,
        trace: Trace,
        span_id: str,
        parent_id: str | None,
        part: Part,
        attributes: Mapping[str, str | int | float | bool],
        error: str | None,
    ) -> None:
        assert self._processor is not None
        self._processor.on_end(_span(trace, span_id, parent_id, part, attributes, error, self._resource))


def _span(
    trace: Trace,
    span_id: str,
    parent_id: str | None,
    part: Part,
    attributes: Mapping[str, str | int | float | bool],
    error: str | None,
    resource: object,
) -> ReadableSpan:
    from opentelemetry import trace as api
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    def context(identity: str, remote: bool) -> api.SpanContext:
        flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        return api.SpanContext(int(trace.trace_id, 16), int(identity, 16), remote, flags)

    assert isinstance(resource, Resource)
    name, start, end = part
    return ReadableSpan(
        name=name,
        context=context(span_id, False),
        parent=context(parent_id, parent_id == trace.parent_id and not trace.inner) if parent_id else None,
        resource=resource,
        attributes=dict(attributes),
        kind=api.SpanKind.SERVER if span_id == trace.span_id and not trace.inner else api.SpanKind.INTERNAL,
        status=api.Status(api.StatusCode.ERROR, error) if error else api.Status(),
        start_time=int(start * 1e9),
        end_time=int(end * 1e9),
    )
