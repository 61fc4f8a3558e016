"""What every gRPC call passes: readable message, API key, deadline, request id, errors to statuses, metrics, log."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from service.app_state import AppState
from service.core import auth, deadline
from service.core.errors import DeadlineExceeded, Internal, ServiceError
from service.rpc import errors
from service.rpc.admission import UnparsedMessage, holding_of_call
from service.serving.byte_budget import ByteHolding
from service.serving.prediction import Caller, EncodedPrediction, Stages
from service.telemetry import tracing
from service.telemetry.metrics import OUTCOMES, Outcome, Transport
from service.telemetry.tracing import Trace, Tracer

_access = logging.getLogger("service.access")
log = logging.getLogger("service.rpc")

#: gRPC counts a deadline on a clock of its own, seconds.
CLOCKS_DIFFER_S = 0.05
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")


@dataclass(slots=True)
class CallContext:
    """The state of one call: `ends` is on the state's clock, seconds; None where a stream's client set no deadline."""

    context: Any
    request_id: str
    client: str
    ends: float | None
    trace: Trace
    holding: ByteHolding  #: what its bytes are counted in
    stages: Stages = ()
    notes: dict[str, str | int | float | bool] = field(default_factory=dict)  #: for log line and trace
    error: ServiceError | None = None
    left: bool = False  #: cancelled, by the client or by its deadline

    def until(self, state: AppState) -> float:
        """Return the deadline of a single request, on the clock of `ends`."""
        settings = state.settings
        default = state.clock() + settings.default_deadline_ms / 1000
        return default if self.ends is None else min(self.ends, state.clock() + settings.max_deadline_ms / 1000)

    def caller(self, deadline: float | None) -> Caller:
        """Name whom the call's predictions are for."""
        return Caller(self.request_id, self.client, deadline, self.trace.traceparent, self.holding)

    def tell(self, value: EncodedPrediction) -> None:
        """Record how the answer came about, for log line and trace."""
        self.stages = value.stages
        self.notes.update(value.facts())


def readable(message: Any) -> Any:
    """Return the message. Raises why there is none, if there is none."""
    if isinstance(message, UnparsedMessage):
        raise message.error
    return message


def sane_id(text: str) -> str | None:
    """Return a caller's request id, if it can stand in a header, a log line and a file name."""
    return text if _SANE_ID.fullmatch(text) else None


class CallHandler:
    """The handling around every method of the service called `name`."""

    def __init__(self, state: AppState, transport: Transport, name: str, tracer: Tracer | None = None) -> None:
        self._parts, self._transport, self._name = state, transport, name
        self.tracer = tracer or Tracer()

    @asynccontextmanager
    async def call(
        self, context: Any, endpoint: str, message_id: str = "", *, counts: bool = True
    ) -> AsyncIterator[CallContext]:
        """Run one call from door to answer. `counts`: whether its duration is a request's (a stream's is not)."""
        state = self._parts
        began = state.clock()
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        call = CallContext(
            context,
            sane_id(message_id) or sane_id(metadata.get("x-request-id", "")) or uuid.uuid4().hex,
            "",
            _ends(context, began),
            tracing.begin(metadata.get("traceparent")),
            holding_of_call(state),
        )
        try:
            try:
                call.client = auth.identify(state.settings.api_keys, auth.bearer(metadata.get("authorization")))
                if call.ends is not None and call.ends <= began:
                    raise DeadlineExceeded("the deadline has passed", reason="deadline")
                context.set_trailing_metadata(_trailers(call))
                with state.work.accepted():
                    yield call
            except ServiceError as error:
                call.error = error
            except asyncio.CancelledError:
                call.left = True
                raise
            except grpc.aio.AbortError:
                raise
            except Exception:
                log.exception("a call failed", extra={"request_id": call.request_id})
                call.error = Internal(f"internal error; the log knows it as request {call.request_id}")
            if call.error is not None:
                await refuse(call, call.error)
        finally:
            self._report(call, endpoint, state.clock() - began, counts)
            # Its traceback holds the call's frames, and they the call: a cycle that would keep the message.
            call.error = None

    def _report(self, call: CallContext, endpoint: str, seconds: float, counts: bool) -> None:
        if call.error is not None:
            outcome = OUTCOMES[call.error.code]
        elif not call.left:
            outcome = Outcome.OK
        elif call.ends is not None and call.ends <= self._parts.clock() + CLOCKS_DIFFER_S:
            outcome = Outcome.DEADLINE
        else:
            outcome = Outcome.CANCELLED
        code = call.error.code if call.error else None
        notes = {"endpoint": endpoint, **call.notes}
        if counts:
            self._parts.metrics.request_done(self._transport, endpoint, outcome, seconds)
        _access.log(
            logging.ERROR if outcome is Outcome.ERROR else logging.INFO,
            "%s %s",
            endpoint,
            outcome.value,
            extra={
                "request_id": call.request_id,
                "trace_id": call.trace.trace_id,
                "client": call.client,
                "outcome": outcome.value,
                "code": code,
                "duration_ms": round(seconds * 1000, 3),
                **notes,
            },
        )
        error_code = code or (outcome.value if call.left else None)
        self.tracer.finished(call.trace, f"{self._name}/{endpoint}", seconds, notes, call.stages, error_code)


async def refuse(call: CallContext, error: ServiceError) -> None:
    """End the call with the error's status and details; always raises."""
    details = errors.status(error, call.request_id, call.client)
    await call.context.abort(
        errors.STATUS[error.code],
        errors.text(error),
        ((errors.DETAILS_KEY, details.SerializeToString()), *_trailers(call)),
    )


def _trailers(call: CallContext) -> tuple[tuple[str, str], ...]:
    return ("x-request-id", call.request_id), ("traceparent", call.trace.traceparent)


def _ends(context: Any, now: float) -> float | None:
    seconds = context.time_remaining()
    # gRPC shows "no deadline" as a moment in the far future, or not at all.
    return None if seconds is None or seconds > deadline.FOREVER else now + seconds
