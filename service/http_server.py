"""Runs HTTP servers: the one that callers use, and the plain ones that machines ask for health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial

import uvicorn

from service.addresses import authority
from service.app_state import AppState
from service.certificates import CertificateFiles
from service.rest import app as rest
from service.rest.transport.bounded_protocol import BoundedProtocol
from service.rest.transport.bounded_socket import BoundedSocket
from service.serving.byte_budget import ByteBudget
from service.settings import Settings

#: Seconds that connections get for their last bytes, though the grace be over.
LAST_WORDS_S = 1
#: Seconds an idle connection is kept: longer than the usual load balancer's 60, which must be the one to close.
KEEP_ALIVE_S = 75


class StartFailed(Exception):
    """The service cannot start; the message says what to change."""


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: signals are ours, and a drain comes before the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(settings: Settings, variable: str = "DMVFN_HTTP_PORT") -> socket.socket:
    """Listen where the settings say. Raises StartFailed, which names `variable`, if the port is taken."""
    host, port = settings.http_host, settings.http_port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # `::` is every interface, as for gRPC, and those of IPv4 are some.
        is_both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=is_both)
    except OSError as error:
        where = authority(host, port)
        raise StartFailed(f"cannot listen on {where} ({error.strerror}); set {variable} or DMVFN_HTTP_HOST") from None


def _tls_files(settings: Settings) -> CertificateFiles | None:
    """Return the settings' TLS files, or None without TLS. Raises StartFailed, which names those that are of no use."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = CertificateFiles(settings.tls_cert, settings.tls_key)
    variables = "DMVFN_TLS_CERT and DMVFN_TLS_KEY"
    try:
        files.context()
        if settings.tls_client_ca is not None:
            variables = "DMVFN_TLS_CLIENT_CA"
            files = CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
            files.context()
    except OSError as error:
        raise StartFailed(f"{variables} cannot be used: {error}") from None
    return files


@asynccontextmanager
async def serving(
    settings: Settings,
    app: object,
    listener: socket.socket,
    on_failure: Callable[[str], None],
    budget: ByteBudget | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve HTTP during the block; then connections get `config.timeout_graceful_shutdown` seconds.

    `on_failure` is called with a sentence if the server ends before the block does. `budget`: in which unread messages
    of WebSockets count; None: in one of their own. Raises StartFailed for TLS files that are of no use.
    """
    budget = budget or ByteBudget(settings.inflight_bytes)
    files = _tls_files(settings)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # an ASGI application
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom to believe is our settings' to say: uvicorn believes every caller of this machine.
        proxy_headers=False,
        date_header=False,
        ws=partial(BoundedSocket, budget, settings.body_timeout_s),  # type: ignore[arg-type]  # called like the class
        # A raw 4K frame is one message; frames do not get smaller by deflating. Unread ones wait in the socket.
        ws_max_size=settings.max_body_bytes,
        ws_max_queue=1,
        ws_per_message_deflate=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_WORDS_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=str(settings.tls_client_ca) if settings.tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    )
    server = HttpServer(config)
    config.load()
    renewing: asyncio.Future[None] | None = None
    if files is not None and config.ssl:
        renewing = asyncio.ensure_future(files.keep(config.ssl))  # awaited below
    running = asyncio.ensure_future(server.serve([listener]))  # awaited below; its early end stops the process
    running.add_done_callback(lambda _: None if server.should_exit else on_failure("the HTTP server ended by itself"))
    try:
        yield server
    finally:
        server.should_exit = True
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait((renewing,))
        with contextlib.suppress(asyncio.CancelledError):
            await running


@asynccontextmanager
async def plain_ports(state: AppState, on_failure: Callable[[str], None]) -> AsyncIterator[None]:
    """Serve health and metrics in plain HTTP, each on the port that the settings give it, if they do: no keys there."""
    settings = state.settings
    ports: dict[int, tuple[str, bool, bool]] = {}
    if settings.health_port:
        ports[settings.health_port] = ("DMVFN_HEALTH_PORT", True, not settings.metrics_port)
    if settings.metrics_port:
        has_health = settings.metrics_port in ports
        ports[settings.metrics_port] = ("DMVFN_METRICS_PORT", has_health, True)
    async with AsyncExitStack() as stack:
        for port, (variable, has_health, has_metrics) in ports.items():
            plain = settings.replace(http_port=port, metrics_port=0, tls_cert=None, tls_key=None, tls_client_ca=None)
            listener = stack.enter_context(closing(listen(plain, variable)))
            app = rest.operations(state, has_health=has_health, has_metrics=has_metrics)
            await stack.enter_async_context(serving(plain, app, listener, on_failure))
        yield
