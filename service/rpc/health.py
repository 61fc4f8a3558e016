"""grpc.health.v1: Check and Watch, straight from the engine's readiness.

Ours instead of the library's, whose Watch holds a lock while it writes: one stalled watcher would block every change.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.core.ports import Engine

#: How late a watcher may learn of a change, seconds. Costs nothing while nobody watches.
EVERY_S = 0.25

Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """`services`: the names that may be asked for; "" is the whole server."""

    def __init__(self, engine: Engine, services: tuple[str, ...]) -> None:
        self._engine = engine
        self._services = frozenset(services) | {""}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """NOT_SERVING from now on."""
        self._stopping.set()

    async def Check(self, request: Any, context: Any) -> Any:
        """The status now."""
        status = self._status(request)
        if status == Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Status(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        """The status now, and again whenever it changes."""
        last = None
        while True:
            status = self._status(request)
            if status != last:
                await context.write(Status(status=status))
                last = status
            if self._stopping.is_set():
                return  # a watch that stayed would keep the server from ending
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def _status(self, request: Any) -> int:
        if getattr(request, "service", None) not in self._services:
            return int(Status.SERVICE_UNKNOWN)
        ready = not self._stopping.is_set() and self._engine.readiness().ready
        return int(Status.SERVING if ready else Status.NOT_SERVING)
