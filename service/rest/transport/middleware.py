"""What every HTTP request passes: id and trace, API key, bounded body, security headers, log line and metrics.

Pure ASGI, so that a client's disconnect reaches the routes. Nothing behind it can end a connection without an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app_state import AppState
from service.core import auth
from service.core.errors import (
    Cancelled,
    Internal,
    InvalidRequest,
    PermissionDenied,
    RateLimited,
    ServiceError,
    Unauthenticated,
    Unsupported,
)
from service.core.forwarding import FORWARDED_FIELD, HOST_FIELD, PREFIX_FIELD, TrustedProxies, caller_of
from service.core.host_names import HostNames, name_of
from service.core.quota import LIMIT_FIELD, POLICY_FIELD, Quota, limit_field, policy_field
from service.rest.formats import stream_messages
from service.rest.transport import bounded_protocol, context, paths
from service.rest.transport.body import BoundedBody
from service.rest.transport.context import Context
from service.rest.transport.errors import media_type_at, problem
from service.rest.transport.head_requests import as_get
from service.telemetry import access_log
from service.telemetry.access_log import AccessRecord
from service.telemetry.metrics import Outcome, Transport
from service.telemetry.tracing import Tracer

_log = logging.getLogger("service.rest")

#: Asked every few seconds by machines: neither logged nor counted.
QUIET = frozenset({"/healthz/live", "/healthz/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})

#: Close codes of RFC 6455.
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A page that needs more says so itself.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

#: Fields that are read here and have one value, as they are called in errors. Of two, each server on the way may
#: take another.
_SINGLE = {
    name.lower().encode(): name
    for name in (
        *("Host", "Authorization", "Content-Type", "Content-Encoding", "Content-Disposition", "Range", "If-Range"),
        *("Idempotency-Key", "X-Frame-Shape", "X-Request-Timeout-Ms", "Inference-Header-Content-Length"),
    )
}


class RequestMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, state: AppState, tracer: Tracer) -> None:
        self._app = app
        self._state = state
        self._tracer = tracer
        self._proxies = TrustedProxies.of(state.settings.trusted_proxies)
        self._host_names = HostNames.serving(state.settings.allowed_hosts, state.settings.http_host)
        headers = dict(SECURITY_HEADERS)
        if state.settings.tls_cert is not None:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        #: As ASGI carries them: names in lower case.
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            with self._state.work.accepted():
                await _Exchange(self, scope, receive, send).run()
        else:
            await self._app(scope, receive, send)

    def begin_context(self, scope: Scope, fields: Mapping[str, str]) -> Context:
        """Begin the request's context and keep it with its scope."""
        request_context = context.begin(
            fields.get("x-request-id"),
            fields.get("traceparent"),
            self._state.clock(),
            self._tracer,
            self._state.budget.open(),
        )
        peer = (scope.get("client") or ("",))[0]
        headers = Headers(scope=scope) if self._proxies.networks else None
        forwarded = () if headers is None else headers.getlist(FORWARDED_FIELD)
        request_context.address = caller_of(self._proxies.caller(peer, forwarded))
        if headers is not None:
            request_context.host = self._proxies.host(peer, headers.getlist(HOST_FIELD))
            request_context.prefix = self._proxies.prefix(peer, headers.getlist(PREFIX_FIELD))
        context.put(scope, request_context)
        return request_context

    def check_host(self, scope: Scope, fields: Mapping[str, str]) -> None:
        """Raise InvalidRequest for a Host that is not ours: a page whose name was made to lead here (DNS rebinding).

        So it does for none at all in HTTP/1.1 (RFC 9112, 3.2): servers on the way may each take another.
        """
        host = fields.get("host")
        if host is None and scope.get("http_version") == "1.1":
            raise InvalidRequest("a request in HTTP/1.1 has a Host", field="Host")
        # Probes and scrapers come by an address that no setting can list, and see no caller's data.
        if not self._host_names.admit(host) and scope["path"] not in QUIET:
            printable = name_of(host or "")[:80].encode("ascii", "backslashreplace").decode()
            raise InvalidRequest(
                f"this server is not known as {printable!r}; DMVFN_ALLOWED_HOSTS lists its names", field="Host"
            )

    async def admit(self, scope: Scope, request_context: Context) -> None:
        """Note whose request it is and what they have left. Raises as the policy refuses, unless the path is open.

        Raises NotFound for a path that none can be.
        """
        path = scope["path"]
        paths.check(path)
        if self._state.access.is_open or not paths.is_guarded(path, metrics=self._state.settings.metrics_need_key):
            return
        decision = await self._state.access.admit(_key(scope), paths.scope_of(path))
        request_context.client, request_context.quotas = decision.client, decision.quotas
        request_context.key_digest = decision.key_digest
        decision.check()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = header_fields(scope)
        request_context = self.begin_context(scope, fields)
        try:
            check_fields(scope["headers"])
            self.check_host(scope, fields)
            await self.admit(scope, request_context)
        except ServiceError as error:
            await receive()  # the handshake
            if isinstance(error, Unauthenticated | PermissionDenied | RateLimited):
                # Opened first: a refused handshake is all that a browser's script would learn.
                await send({"type": "websocket.accept", "subprotocol": _offered(scope)})
                await send({"type": "websocket.send", "text": stream_messages.refusal(error)})
                code = TRY_AGAIN_LATER if isinstance(error, RateLimited) else POLICY_VIOLATION
                await send({"type": "websocket.close", "code": code, "reason": error.code})
            else:
                await problem(error, request_context.request_id)(scope, receive, send)
            request_context.code = error.code
            self._streamed(_template(scope), request_context)
            return
        try:
            with self._state.work.accepted():
                await self._app(scope, receive, send)
        finally:
            request_context.holding.release()
            self._streamed(_template(scope), request_context)

    def _streamed(self, endpoint: str, request_context: Context) -> None:
        """Count a stream, and write its log line and span. Its length is no request's duration, so it is not one."""
        outcome = access_log.outcome_of(request_context.code, request_context.reason)
        self._state.metrics.stream_ended(Transport.WEBSOCKET, endpoint, outcome)
        access_log.write(
            request_context,
            self._tracer,
            AccessRecord(
                title=f"WEBSOCKET {endpoint} {outcome.value}",
                span=f"WEBSOCKET {endpoint}",
                endpoint=endpoint,
                outcome=outcome,
                seconds=self._state.clock() - request_context.began,
            ),
        )


class _Exchange:
    """One request and its answer."""

    def __init__(self, middleware: RequestMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware = middleware
        self._state = middleware._state
        self._scope = as_get(scope)
        self._send = send
        self._fields = header_fields(self._scope)
        settings = self._state.settings
        self._context = middleware.begin_context(self._scope, self._fields)
        self._method = scope["method"]
        self._holding = self._context.holding
        self._body = BoundedBody(receive, settings.max_body_bytes, settings.body_timeout_s, self._holding)
        self._status = 0
        self._sent = 0
        self._is_complete = self._is_cut = False

    async def run(self) -> None:
        try:
            check_fields(self._scope["headers"])
            self._middleware.check_host(self._scope, self._fields)
            await self._middleware.admit(self._scope, self._context)
            self._body.announce(self._fields.get("content-length"))
            await self._middleware._app(self._scope, self._body, self.send)
        except ServiceError as error:
            await self._refuse(error)
        except Exception as error:
            _log.exception("a request failed", extra={"request_id": self._context.request_id})
            if self._status:
                self._context.code = Internal.code
                raise  # half an answer is out: only closing the connection tells the client that it is not whole
            failure = Internal(f"internal error; the log knows it as request {self._context.request_id}")
            failure.__cause__ = error
            await self._refuse(failure)
        finally:
            seconds = self._state.clock() - self._context.began
            try:
                # The transport holds what its reader has not taken: it counts until it has left.
                if self._status and (wait_until_read := bounded_protocol.drained(self._scope)) is not None:
                    self._is_cut = not await wait_until_read()
            finally:
                self._report(seconds)
                self._holding.release()

    async def send(self, message: Message) -> None:
        """Send a message. Adds the headers that every answer carries; remembers status and bytes."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = message.get("headers", ())
            names = dict(headers)
            message["headers"] = [
                *headers,
                (b"x-request-id", self._context.request_id.encode()),
                (b"traceparent", self._context.trace.traceparent.encode()),
                *_limits(self._context.quotas),
                *[header for header in self._middleware._headers if header[0] not in names],
            ]
            await self._read_some_rest(message)
        await self._send(message)
        if message["type"] == "http.response.body":
            self._is_complete = not message.get("more_body", False)
            if self._method != "HEAD":
                self._sent += len(message.get("body", b""))

    async def _read_some_rest(self, start: Message) -> None:
        """Receive some of the rest of the body where the answer comes before its end, else close."""
        if self._body.complete or self._body.left:
            return
        if self._fields.get("content-length", "0") == "0" and "transfer-encoding" not in self._fields:
            return
        if self._status == 408:  # waited long enough
            start["headers"].append((b"connection", b"close"))
            return
        # Who asked before sending ("Expect: 100-continue") and was not told to go on sends nothing.
        if "expect" not in self._fields or self._body.seen:
            await self._body.drain()
        if not self._body.complete:
            start["headers"].append((b"connection", b"close"))

    async def _refuse(self, error: ServiceError) -> None:
        self._context.code = error.code
        if not self._status:
            media_type = media_type_at(self._scope["path"])
            answer = problem(error, self._context.request_id, media_type=media_type)
            await answer(self._scope, self._body, self.send)

    def _report(self, seconds: float) -> None:
        endpoint = _template(self._scope)
        if endpoint in QUIET:
            return
        if self._is_cut and self._context.code is None:
            self._context.code = Cancelled.code  # all was sent, but not all was read
        # Without a code, but for what broke off on our side.
        is_whole = self._is_complete and 0 < self._status < 500
        is_error = self._context.code is None and not is_whole
        outcome = Outcome.ERROR if is_error else access_log.outcome_of(self._context.code)
        method = self._method[:16]
        v2 = self._scope["path"].startswith("/v2")
        self._state.metrics.request_done(Transport.V2_REST if v2 else Transport.REST, endpoint, outcome, seconds)
        access_log.write(
            self._context,
            self._middleware._tracer,
            AccessRecord(
                title=f"{method} {endpoint} {self._status}",
                span=f"{method} {endpoint}",
                endpoint=endpoint,
                outcome=outcome,
                seconds=seconds,
                transport_notes={"status": self._status},
                sizes={"bytes_in": self._body.seen, "bytes_out": self._sent},
            ),
        )


def header_fields(scope: Scope) -> dict[str, str]:
    """Return the header fields of a request by their names, in lower case; of several with one name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def check_fields(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise InvalidRequest, by name, for a field of one value that is given twice; `headers` have names in lower case.

    Raises Unsupported for a body that is coded for its way other than in chunks: it would be taken for its content.
    """
    seen: set[bytes] = set()
    for name, value in headers:
        if name in _SINGLE:
            if name in seen:
                raise InvalidRequest(f"{_SINGLE[name]} is given twice", field=_SINGLE[name])
            seen.add(name)
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            why = "bodies may come in chunks; no other coding of a transfer is read"
            raise Unsupported(why, field="Transfer-Encoding")


def _limits(quotas: Sequence[Quota]) -> list[tuple[bytes, bytes]]:
    """Write what the caller may ask for, and has left, as headers; none where there is no limit."""
    if not quotas:
        return []
    return [
        (POLICY_FIELD.encode(), policy_field(quotas).encode()),
        (LIMIT_FIELD.encode(), limit_field(quotas).encode()),
    ]


def _key(scope: Scope) -> str | None:
    connection = HTTPConnection(scope)
    key = auth.bearer(connection.headers.get("authorization"))
    if key is None and scope["type"] == "websocket":
        # Browsers can set no header on a websocket; a subprotocol is the one thing they can, and no URL is logged.
        protocols = (word.strip() for word in connection.headers.get("sec-websocket-protocol", "").split(","))
        key = next((word.removeprefix("bearer.") for word in protocols if word.startswith("bearer.")), None)
    return key


def _offered(scope: Scope) -> str | None:
    """Return the subprotocol to agree on: browsers that offer any end a connection that agrees on none."""
    return stream_messages.SUBPROTOCOL if stream_messages.SUBPROTOCOL in scope.get("subprotocols", ()) else None


def _template(scope: Scope) -> str:
    """Return the matched route's path as written in the code: bounded, and free of what callers put into paths."""
    return getattr(scope.get("route"), "path", "") or "unmatched"
