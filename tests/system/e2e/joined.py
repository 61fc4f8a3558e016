"""Both edges on real ports around a real batcher and the tiny network, in this process: its parts are at hand."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
import uvicorn
from prometheus_client import CollectorRegistry

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from service.app_state import AppState
from service.engine.batcher import Batcher
from service.engine.device import Device
from service.engine.predictor import Predictor
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest import app as rest
from service.rest.routes import oip, stream
from service.rpc import server as rpc
from service.settings import Settings
from service.telemetry.metrics import Metrics


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """Where it listens, and its parts."""

    parts: AppState
    server: rpc.RunningServer
    http: str
    grpc: str


def tiny() -> DMVFN:
    """Always the same network."""
    torch.manual_seed(11)
    return DMVFN(ModelConfig.tiny()).eval()


@asynccontextmanager
async def joined(device: Device | None = None, **settings: Any) -> AsyncIterator[Joined]:
    """Serving while it lasts, the tiny network or `device`; keyword arguments are settings."""
    chosen = dataclasses.replace(
        Settings(), **{"grpc_port": 0, "threads": 1, "codec_threads": 1, "warmup_sizes": ((32, 48),), **settings}
    )
    metrics = Metrics(CollectorRegistry())
    batcher = Batcher(lambda: device or Predictor(tiny(), threads=1), chosen, metrics)
    parts = AppState(chosen, batcher, Codecs(FrameLimits.of(chosen), 1, metrics), metrics)
    await batcher.start()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        rest.build(parts, [oip.router(parts), stream.router(parts)]),
        log_config=None,
        access_log=False,
        ws_max_size=chosen.max_body_bytes,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    http = uvicorn.Server(config)
    # Not serve(): it would take the test run's signal handlers.
    serving = asyncio.create_task(http._serve([listener]))
    server = await rpc.start(parts)
    try:
        yield Joined(parts, server, f"http://127.0.0.1:{listener.getsockname()[1]}", f"127.0.0.1:{server.port}")
    finally:
        await server.drain(0)
        http.should_exit = True
        await serving
        await batcher.close()
        parts.codecs.close()
