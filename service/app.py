"""Settings → parts → one lifespan: the only place where the parts meet.

Starts in order, stops backwards. HTTP is open from the first moment, so that liveness can be asked; readiness comes
after warm-up and falls before anything stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import metadata

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service.core.codec import Limits
from service.core.errors import Unavailable
from service.core.ports import Engine, ModelInfo, Readiness
from service.core.types import PredictRequest, PredictResult
from service.engine.batcher import Batcher
from service.engine.codecs import Codecs
from service.engine.predictor import Predictor
from service.metrics import Metrics
from service.parts import Parts
from service.rest import app as rest
from service.settings import Settings
from service.tracing import Tracer

log = logging.getLogger("service")

#: Exit statuses, for supervisors and people.
EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTING, EXIT_DEVICE_LOST = 0, 1, 2, 3
#: Seconds that connections get to take their last answers once all work is done.
LAST_WORDS_S = 2.0
#: Seconds an idle connection is kept: longer than the usual load balancer's 60, which must be the one to close.
KEEP_ALIVE_S = 75


class StartFailed(Exception):
    """The service cannot start; the message says what to change."""


class Stop:
    """Why and when to stop: the first signal or a lost device asks for it, a second signal leaves at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.status = EXIT_OK

    def signalled(self, number: signal.Signals) -> None:
        """SIGTERM or SIGINT came."""
        if self.asked.is_set():
            log.warning("second %s: leaving at once", number.name)
            os._exit(EXIT_FAILED)
        log.info("%s: draining", number.name)
        self.asked.set()

    def fatal(self, error: BaseException) -> None:
        """Only a new process helps."""
        self.status = EXIT_DEVICE_LOST
        self.asked.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, signals come here."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.signalled, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


class Gate:
    """The engine as edges see it: says "draining" to health checks while it still takes work.

    Between falling from ready and refusing lies the time that load balancers need to notice.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._falling = False
        self.debug = getattr(engine, "debug", None)

    def fall(self) -> None:
        """From now on not ready."""
        self._falling = True

    async def predict(self, request: PredictRequest) -> PredictResult:
        """As the engine."""
        return await self._engine.predict(request)

    def readiness(self) -> Readiness:
        """As the engine, or draining."""
        return Readiness(False, "draining") if self._falling else self._engine.readiness()

    def model(self) -> ModelInfo:
        """As the engine."""
        return self._engine.model()


class _Http(uvicorn.Server):
    """uvicorn without its own signal handling: signals are ours, and a drain comes before the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def version() -> str:
    """Of this service."""
    try:
        return metadata.version("dmvfn-service")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "0+checkout"


def make_metrics() -> Metrics:
    """On a registry of its own, with what Prometheus clients tell of every process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(registry)
    # From the installed package's data: a front end over Redis never loads torch.
    metrics.about(version=version(), python=platform.python_version(), torch=metadata.version("torch"))
    return metrics


async def serve(settings: Settings, announce: Callable[[str], None] = print) -> int:
    """Serve until a signal or a lost device; the process's exit status. StartFailed where it cannot begin."""
    stop = Stop()
    with stop.listening():
        listener = _listener(settings)  # first: a taken port should be told before weights are loaded
        try:
            async with _engine(settings, stop) as (engine, metrics):
                await _serve(settings, stop, listener, engine, metrics, announce)
        finally:
            listener.close()
    return stop.status


async def _serve(
    settings: Settings,
    stop: Stop,
    listener: socket.socket,
    engine: Batcher,
    metrics: Metrics,
    announce: Callable[[str], None],
) -> None:
    gate = Gate(engine)
    tracer = Tracer.to(settings.otlp_endpoint, version())
    codecs = Codecs(Limits.of(settings), settings.codec_threads, metrics)
    parts = Parts(settings, gate, codecs, metrics)
    async with _http(settings, rest.build(parts, tracer=tracer), listener):
        started = asyncio.ensure_future(engine.start())
        asked = asyncio.ensure_future(stop.asked.wait())
        await asyncio.wait({started, asked}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            _raise_if_failed(started)
            announce(greeting(settings, listener.getsockname()[1], engine.model()))
            await asked
        started.cancel()
        metrics.draining()
        gate.fall()
        if stop.status == EXIT_OK and settings.drain_delay_s:
            await asyncio.sleep(settings.drain_delay_s)
        await engine.drain(settings.shutdown_grace_s)
    codecs.close()
    # Exporting what is left may wait for an endpoint that is not there.
    await asyncio.to_thread(tracer.close)


@asynccontextmanager
async def _engine(settings: Settings, stop: Stop) -> AsyncIterator[tuple[Batcher, Metrics]]:
    metrics = make_metrics()
    engine = Batcher(lambda: Predictor.of(settings), settings, metrics, on_fatal=stop.fatal)
    try:
        yield engine, metrics
    finally:
        await engine.close()


def _raise_if_failed(started: asyncio.Future[None]) -> None:
    error = started.exception()
    if isinstance(error, Unavailable):
        raise StartFailed(error.message) from error
    if error is not None:
        # A checkpoint that does not fit, a device that is not there: their messages name it.
        raise StartFailed(str(error) or type(error).__name__) from error


def _listener(settings: Settings) -> socket.socket:
    host, port = settings.http_host, settings.http_port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartFailed(
            f"cannot listen on {host}:{port} ({error.strerror}); set DMVFN_HTTP_PORT or DMVFN_HTTP_HOST"
        ) from None


@asynccontextmanager
async def _http(settings: Settings, app: object, listener: socket.socket) -> AsyncIterator[None]:
    """HTTP is served while this lasts."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # an ASGI application
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(LAST_WORDS_S) or 1,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=str(settings.tls_client_ca) if settings.tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    )
    server = _Http(config)
    serving = asyncio.ensure_future(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def greeting(settings: Settings, http_port: int, model: ModelInfo) -> str:
    """What a person who started the service wants to know."""
    scheme = "https" if settings.tls_cert else "http"
    lines = [f"DMVFN {version()} is ready: {scheme}://{_reachable(settings.http_host)}:{http_port}"]
    lines.append(f"  weights {model.version} on {model.device} ({model.dtype})")
    if {"psnr_t1", "psnr_t1_repeat"} <= model.scores.keys():
        ours, repeat = model.scores["psnr_t1"], model.scores["psnr_t1_repeat"]
        lines[-1] += f": {ours:.2f} dB on held-out video, where repeating the last frame gives {repeat:.2f} dB"
    if model.warning:
        lines.append(f"  note: {model.warning}")
    return "\n".join(lines)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(host, host)
