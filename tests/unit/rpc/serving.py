"""A gRPC server on a free port, around an engine, with a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2_grpc
from service.app_state import AppState
from service.rpc.server import RunningServer, start
from service.telemetry.tracing import Tracer
from tests.unit.rpc.small import parts as small_parts

#: Answers may be larger than gRPC's four megabytes.
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class Served:
    parts: AppState
    server: RunningServer
    channel: Any

    @property
    def ours(self) -> Any:
        return dmvfn_pb2_grpc.PredictionServiceStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def v2(self) -> Any:
        return inference_pb2_grpc.GRPCInferenceServiceStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@asynccontextmanager
async def served(engine: Any, *, tracer: Tracer | None = None, **settings: Any) -> AsyncIterator[Served]:
    """Serving while it lasts; other keyword arguments are settings."""
    joined = small_parts(engine, **settings)
    server = await start(joined, tracer)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=LARGE) as channel:
            yield Served(joined, server, channel)
    finally:
        await server.drain(0)
        joined.codecs.close()
