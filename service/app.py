"""Joins the parts: builds them from the settings and runs them in one lifespan. The only place where they meet.

Starts in order, stops backwards. HTTP is open from the first moment, so that liveness can be asked; readiness comes
after warm-up and falls before anything stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from importlib import metadata

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service import key_file, startup
from service.addresses import authority
from service.app_state import AppState
from service.backends import Backend, DrainingEngine, LocalBackend, RedisBackend
from service.greeting import announce, greeting
from service.http_server import LAST_WORDS_S, StartFailed, listen, plain_ports, serving
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.large_pages import moving_memory
from service.rest import app as rest
from service.rest.routes import demo, oip, stream, video
from service.rpc import server as rpc
from service.serving.accepted_work import AcceptedWork
from service.serving.jobs.clip_makers import ClipMakers
from service.serving.jobs.video import VideoJobs
from service.serving.last_way import NeverLateEngine
from service.serving.video.clip_resources import ClipResources
from service.settings import Settings
from service.short_turns import go_first, take_short_turns
from service.supervision import Supervisor
from service.telemetry.metrics import Background, Metrics
from service.telemetry.tracing import Tracer
from service.version import RELEASE

log = logging.getLogger("service")

#: Exit statuses, for supervisors and people.
EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTING, EXIT_DEVICE_LOST, EXIT_UNFINISHED = 0, 1, 2, 3, 4


class Stop:
    """Holds why and when to stop: the first signal or a lost device asks for it, a second signal leaves at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.status = EXIT_OK

    def handle_signal(self, number: signal.Signals) -> None:
        """Handle SIGTERM or SIGINT: ask to stop; the second one ends the process at once."""
        if self.asked.is_set():
            log.warning("second %s: leaving at once", number.name)
            os._exit(EXIT_FAILED)
        log.info("%s: draining", number.name)
        self.asked.set()

    def fatal(self, error: BaseException) -> None:
        """Ask to stop with EXIT_DEVICE_LOST: only a new process helps."""
        self.status = EXIT_DEVICE_LOST
        self.asked.set()

    def failed(self, what: str) -> None:
        """Ask to stop with EXIT_FAILED because `what`, a part that should not end, did; only a new process helps."""
        if not self.asked.is_set():
            log.error("%s; leaving", what)
            self.status = EXIT_FAILED
            self.asked.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT with `handle_signal` during the block."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def make_metrics() -> Metrics:
    """Build metrics on a registry of their own, with what Prometheus clients tell of every process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(registry)
    metrics.about(version=RELEASE, python=platform.python_version(), torch=_torch_version())
    return metrics


def _torch_version() -> str:
    """Return torch's version from its package's data: a front end over Redis never loads it, and need not have it."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "none"


async def serve(settings: Settings, announce: Callable[[str], None] = announce) -> int:
    """Serve until a signal or a lost device; return the exit status. Raise StartFailed where it cannot begin."""
    _open_files()
    stop = Stop()
    with stop.listening(), closing(listen(settings)) as listener:  # a taken port is told before weights are loaded
        metrics = make_metrics()
        remote = settings.engine == "redis"
        try:
            host: Backend = RedisBackend(settings, metrics) if remote else LocalBackend(settings, metrics, stop.fatal)
        except ImportError as error:  # a package that only a setting needs
            raise StartFailed(str(error)) from None
        try:
            await _serve(settings, stop, listener, host, metrics, announce)
        finally:
            await host.close()
    return stop.status


async def work(settings: Settings, announce: Callable[[str], None] = announce) -> int:
    """Predict for front ends until a signal or a lost device; return the process's exit status."""
    if not settings.redis_url:
        raise StartFailed("a worker needs DMVFN_REDIS_URL")
    from service.distributed.worker.worker import Worker

    stop = Stop()
    with stop.listening(), closing(listen(settings)) as listener:
        metrics = make_metrics()
        # Clients, items and bytes were counted by the front end; what a worker claims its own queue must not refuse.
        settings = settings.replace(max_client_items=0)
        engine_settings = settings.replace(max_queue_items=sys.maxsize, max_queue_bytes=sys.maxsize)
        host = LocalBackend(engine_settings, metrics, stop.fatal)
        gate = DrainingEngine(host.engine, is_starting=True)
        metrics.ready_while(lambda: gate.readiness().ready)
        codecs, repository = Codecs(FrameLimits.of(settings), 1, metrics), host.repository
        state = AppState(settings, gate, codecs, metrics, repository=repository)
        worker = Worker(settings, gate, metrics, device=host.scheduling, repository=repository)
        gate.warnings = lambda: worker.server.warnings
        metrics.watch(worker.server.gauges)
        try:
            web = rest.operations(state, [oip.repository(state)])
            async with (
                _keys(state, gate),
                serving(settings, web, listener, stop.failed),
                plain_ports(state, stop.failed),
            ):
                if await _start(host, gate, stop):
                    announce(greeting(settings, listener.getsockname()[1], None, gate))
                    working = asyncio.ensure_future(worker.run())  # awaited below
                    stop_request = asyncio.ensure_future(stop.asked.wait())  # awaited
                    async with moving_memory(Supervisor(metrics)):
                        await asyncio.wait({working, stop_request}, return_when=asyncio.FIRST_COMPLETED)
                    stop_request.cancel()
                    metrics.draining()
                    gate.stop_advertising()
                    worker.stop()
                    if not await working:
                        stop.status = EXIT_DEVICE_LOST
        finally:
            await host.close()
    return stop.status


async def _serve(
    settings: Settings,
    stop: Stop,
    listener: socket.socket,
    host: Backend,
    metrics: Metrics,
    announce: Callable[[str], None],
) -> None:
    work = AcceptedWork()
    gate = DrainingEngine(NeverLateEngine(host.engine, metrics), work, is_starting=True)
    metrics.ready_while(lambda: gate.readiness().ready)
    tracer = Tracer.to(settings.otlp_endpoint, RELEASE)
    codecs = Codecs(FrameLimits.of(settings), settings.codec_threads, metrics)
    state = AppState(
        settings,
        gate,
        codecs,
        metrics,
        work=work,
        repository=host.repository,
        version_scores=host.version_scores,
        limiter=host.limiter,
    )
    resources = ClipResources(state)
    clips = host.clips or VideoJobs(settings, resources, work, metrics)
    clip_routes = video.router(state, resources, clips, host.jobs)
    extra = (oip.router(state), stream.router(state), demo.router(state), clip_routes)
    web = rest.build(state, extra, jobs=host.jobs, clips=clips, tracer=tracer)
    async with (
        _keys(state, gate),
        serving(settings, web, listener, stop.failed, state.budget) as http,
        _grpc(state, tracer) as calls,
        plain_ports(state, stop.failed),
        _clips(state, resources, host),
    ):
        port = listener.getsockname()[1]
        if await _start(host, gate, stop):
            announce(greeting(settings, port, calls.port if calls else None, gate))
            async with moving_memory(Supervisor(metrics)):
                await stop.asked.wait()
        metrics.draining()
        device_lost = stop.status != EXIT_OK
        deadline = (
            asyncio.get_running_loop().time()
            + (0.0 if device_lost else settings.drain_delay_s)
            + settings.shutdown_grace_s
        )
        complete = await _drain(state, gate, host, calls, deadline, at_once=device_lost)
        http.config.timeout_graceful_shutdown = max(LAST_WORDS_S, int(deadline - asyncio.get_running_loop().time()))
        if not complete:
            log.warning("accepted work was not finished within %.0f s", settings.shutdown_grace_s)
            stop.status = stop.status or EXIT_UNFINISHED
    codecs.close()
    # Exporting what is left may wait for an endpoint that is not there.
    await asyncio.to_thread(tracer.close)


async def _start(host: Backend, gate: DrainingEngine, stop: Stop) -> bool:
    """Wait until `host` has started, and have `gate` say so; False if it was told to stop before it was ready."""
    starting = asyncio.ensure_future(host.start())  # awaited below
    stop_request = asyncio.ensure_future(stop.asked.wait())  # awaited
    await asyncio.wait({starting, stop_request}, return_when=asyncio.FIRST_COMPLETED)
    stop_request.cancel()
    if not starting.done():
        starting.cancel()
        return False
    if error := starting.exception():
        # A checkpoint that does not fit, a device that is not there: their messages name it.
        raise StartFailed(str(error) or type(error).__name__) from error
    startup.finish()
    # Now that the device's threads are there: they would have them too, and need not wake soon.
    take_short_turns()
    # Beside a full processor it would wait for its next turn with an answer in hand.
    go_first()
    gate.finish_start()
    return True


async def _drain(
    state: AppState,
    gate: DrainingEngine,
    host: Backend,
    calls: rpc.RunningServer | None,
    deadline: float,
    *,
    at_once: bool,
) -> bool:
    """Fall from ready, refuse new work and finish what was accepted, to its last byte: true if all of it by `deadline`.

    `deadline` on the loop's clock, seconds; `at_once` where there is nothing to wait for, the device being lost.
    """
    gate.stop_advertising()
    if state.settings.drain_delay_s and not at_once:
        await asyncio.sleep(state.settings.drain_delay_s)
    state.streams.drain()
    grace = max(0.0, deadline - asyncio.get_running_loop().time())
    drains = [gate.drain(grace)]
    # Jobs that end with this process; those in Redis outlive it.
    if (finish := getattr(host.jobs, "drain", None)) is not None:
        drains.append(finish(grace))
    if calls is not None:
        drains.append(_drain_calls(calls, grace))
    return all(await asyncio.gather(*drains))


async def _drain_calls(calls: rpc.RunningServer, grace: float) -> bool:
    await calls.drain(max(0.0, grace))
    return True


@asynccontextmanager
async def _grpc(state: AppState, tracer: Tracer) -> AsyncIterator[rpc.RunningServer | None]:
    """Serve gRPC during the block, if the settings want it; `drain` ends it."""
    if not state.settings.grpc_enabled:
        yield None
        return
    try:
        server = await rpc.start(state, tracer)
    except RuntimeError:
        where = authority(state.settings.grpc_host, state.settings.grpc_port)
        raise StartFailed(f"gRPC cannot listen on {where}; set DMVFN_GRPC_PORT or DMVFN_GRPC_ENABLED=0") from None
    try:
        yield server
    finally:
        await server.drain(0.0)


@asynccontextmanager
async def _clips(state: AppState, resources: ClipResources, host: Backend) -> AsyncIterator[None]:
    """Make clips of the queue during the block, where there is one; what is under way at its end is given back."""
    if host.clip_queue is None:
        yield
        return
    makers = ClipMakers(host.clip_queue, resources, state.work, state.metrics)
    making = Supervisor(state.metrics).loop(Background.CLIP_MAKERS, makers.run)
    try:
        yield
    finally:
        making.cancel()
        await asyncio.wait((making,))


@asynccontextmanager
async def _keys(state: AppState, gate: DrainingEngine) -> AsyncIterator[None]:
    """Use the keys of the settings' file during the block, if there is one, and follow its changes."""
    if (path := state.settings.api_keys_file) is None:
        state.metrics.watch(lambda: key_file.gauges(None))
        yield
        return
    try:
        file = key_file.KeyFile(path)
    except ValueError as error:
        raise StartFailed(f"DMVFN_API_KEYS_FILE {error}") from None
    state.access.use(file.keys)
    others = gate.warnings
    gate.warnings = lambda: (*others(), *file.warnings())
    state.metrics.watch(lambda: key_file.gauges(file))
    following = Supervisor(state.metrics).loop(
        Background.API_KEYS, lambda: file.keep(state.access.use, key_file.CHECK_S)
    )
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait((following,))


def _open_files() -> None:
    """Raise the limit on open files to the system's: each connection is one; idle clients could hold the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems have no number for "as many as there are"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
