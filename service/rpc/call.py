"""What every gRPC call passes: readable message, API key, deadline, request id, errors to statuses, metrics, log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from service.app_state import AppState
from service.core import deadline
from service.core.errors import DeadlineExceeded, Internal, ServiceError
from service.core.forwarding import FORWARDED_FIELD, TrustedProxies, caller_of
from service.core.quota import LIMIT_FIELD, POLICY_FIELD, limit_field, policy_field
from service.rpc import errors
from service.rpc.message_reading import (
    UnparsedMessage,
    decision_of_call,
    ending_of_call,
    holding_of_call,
    peer_address,
)
from service.serving.byte_budget import ByteHolding
from service.telemetry import access_log, tracing
from service.telemetry.access_log import AccessRecord
from service.telemetry.metrics import Outcome, Transport
from service.telemetry.request_context import RequestContext, choose_id
from service.telemetry.tracing import Tracer

log = logging.getLogger("service.rpc")

#: gRPC counts a deadline on a clock of its own, seconds.
CLOCKS_DIFFER_S = 0.05


@dataclass(slots=True)
class CallContext(RequestContext):
    """The state of one call: `deadline` is on the state's clock, seconds; None where a stream's client set none."""

    grpc_context: Any = None
    deadline: float | None = None
    holding: ByteHolding = field(kw_only=True)  #: what its bytes are counted in
    error: ServiceError | None = None
    left: bool = False  #: cancelled, by the client or by its deadline

    def request_deadline(self, state: AppState) -> float:
        """Return the deadline of a single request, on the state's clock."""
        settings = state.settings
        default = state.clock() + settings.default_deadline_ms / 1000
        return default if self.deadline is None else min(self.deadline, state.clock() + settings.max_deadline_ms / 1000)


def readable(message: Any) -> Any:
    """Return the message. Raises why there is none, if there is none."""
    if isinstance(message, UnparsedMessage):
        raise message.error
    return message


class CallHandler:
    """The handling around every method of the service called `name`."""

    def __init__(self, state: AppState, transport: Transport, name: str, tracer: Tracer | None = None) -> None:
        self._state, self._transport, self._name = state, transport, name
        self.tracer = tracer or Tracer()
        self._proxies = TrustedProxies.of(state.settings.trusted_proxies)

    @asynccontextmanager
    async def call(
        self, context: Any, endpoint: str, message_id: str = "", *, counts: bool = True
    ) -> AsyncIterator[CallContext]:
        """Run one call from arrival to answer. `counts`: whether its duration is a request's (a stream's is not)."""
        state = self._state
        began = state.clock()
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        call = CallContext(
            choose_id(message_id, metadata.get("x-request-id")),
            began,
            tracing.begin(metadata.get("traceparent")),
            grpc_context=context,
            deadline=_deadline_of(context, began),
            holding=holding_of_call(state),
            address=caller_of(self._proxies.caller(peer_address(context.peer()), _forwarded(context))),
        )
        has_answered = False
        try:
            try:
                decision = await decision_of_call(state, context, endpoint)
                call.client, call.quotas = decision.client, decision.quotas
                call.key_digest = decision.key_digest
                decision.check()
                if call.deadline is not None and call.deadline <= began:
                    state.metrics.deadline_missed("admit")
                    raise DeadlineExceeded("the deadline has passed", reason="deadline")
                context.set_trailing_metadata(_trailers(call))
                with state.work.accepted():
                    yield call
                has_answered = True
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
            report = partial(self._report, call, endpoint, state.clock() - began, counts)
            ending = ending_of_call() if has_answered else None
            if ending is not None:  # its answer is yet to be written
                ending.report = report
            else:
                report(False)
            # Its traceback holds the call's frames, and they the call: a cycle that would keep the message.
            call.error = None

    def _report(self, call: CallContext, endpoint: str, seconds: float, counts: bool, is_cut: bool) -> None:
        call.left = call.left or is_cut
        call.code, call.reason = (call.error.code, call.error.reason) if call.error else (None, None)
        if not call.left:
            outcome = access_log.outcome_of(call.code, call.reason)
        elif self._state.work.is_cut:
            outcome = Outcome.ERROR  # ended by us, at the end of a stop's grace
        elif call.deadline is not None and call.deadline <= self._state.clock() + CLOCKS_DIFFER_S:
            outcome = Outcome.DEADLINE
        else:
            outcome = Outcome.CANCELLED
        if counts:
            self._state.metrics.request_done(self._transport, endpoint, outcome, seconds)
        else:
            self._state.metrics.stream_ended(self._transport, endpoint, outcome)
        access_log.write(
            call,
            self.tracer,
            AccessRecord(
                title=f"{endpoint} {outcome.value}",
                span=f"{self._name}/{endpoint}",
                endpoint=endpoint,
                outcome=outcome,
                seconds=seconds,
                error=outcome.value if call.left else None,
            ),
        )


async def refuse(call: CallContext, error: ServiceError) -> None:
    """End the call with the error's status and details; always raises."""
    details = errors.status(error, call.request_id, call.client)
    await call.grpc_context.abort(
        errors.STATUS[error.code],
        errors.text(error),
        ((errors.DETAILS_KEY, details.SerializeToString()), *_trailers(call)),
    )


def _trailers(call: CallContext) -> tuple[tuple[str, str], ...]:
    trailers = (("x-request-id", call.request_id), ("traceparent", call.trace.traceparent))
    if not call.quotas:
        return trailers
    return (*trailers, (POLICY_FIELD, policy_field(call.quotas)), (LIMIT_FIELD, limit_field(call.quotas)))


def _forwarded(context: Any) -> list[str]:
    pairs = context.invocation_metadata() or ()
    return [value for key, value in pairs if key == FORWARDED_FIELD and isinstance(value, str)]


def _deadline_of(context: Any, now: float) -> float | None:
    seconds = context.time_remaining()
    # gRPC shows "no deadline" as a moment in the far future, or not at all.
    return None if seconds is None or seconds > deadline.FOREVER else now + seconds
