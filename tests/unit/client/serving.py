"""The whole service with a tiny network on real ports, on a thread of this process: torch is loaded here already."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from service.app_state import AppState
from service.backends import LocalBackend
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest import app
from service.rest.routes import demo, oip, stream, video
from service.rpc import server as rpc
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.system.e2e.process import tiny_weights

#: Seconds that starting and stopping may take on a busy machine.
PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Serving:
    """Where it listens."""

    url: str
    grpc: str
    metrics: Metrics


@contextlib.contextmanager
def serving(settings: Settings | None = None) -> Iterator[Serving]:
    """Ready while this lasts; weights, threads, ports (gRPC's unless given) and warm-up are chosen here."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = dataclasses.replace(
            settings or Settings(),
            weights=tiny_weights(Path(folder)),
            threads=1,
            grpc_port=settings.grpc_port if settings and settings.grpc_port != Settings().grpc_port else 0,
            warmup_sizes=((32, 48),),
        )
        running = _Running(chosen)
        thread = threading.Thread(target=running.run, name="service")
        thread.start()
        try:
            if not running.ready.wait(PATIENCE) or running.found is None:
                raise AssertionError(f"the service did not start: {running.error!r}")
            yield running.found
        finally:
            running.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if running.error is not None:
            raise running.error


class _Running:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ready = threading.Event()
        self.found: Serving | None = None
        self.error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.error = error
        finally:
            self.ready.set()

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        metrics = Metrics.unseen()
        host = LocalBackend(self._settings, metrics, lambda error: None)
        codecs = Codecs(FrameLimits.of(self._settings), 1, metrics)
        parts = AppState(self._settings, host.engine, codecs, metrics)
        extra = (oip.router(parts), stream.router(parts), demo.router(parts), video.router(parts))
        web = app.build(parts, extra, jobs=host.jobs)
        calls = await rpc.start(parts)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(
                uvicorn.Config(web, log_config=None, access_log=False, timeout_graceful_shutdown=2, lifespan="off")
            )
            server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # not the main thread
            http = asyncio.ensure_future(server.serve([listener]))
            await host.start()
            port = listener.getsockname()[1]
            self.found = Serving(f"http://127.0.0.1:{port}", f"127.0.0.1:{calls.port}", metrics)
            self.ready.set()
            await self._stopping.wait()
            parts.streams.drain()
            await calls.drain(2.0)
            server.should_exit = True
            await http
        await host.close()
        codecs.close()
