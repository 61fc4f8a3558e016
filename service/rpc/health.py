"""grpc.health.v1: Check, List and Watch, straight from the engine's readiness.

Ours instead of the library's, whose Watch holds a lock while it writes: one stalled watcher would block every change.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.core.interfaces import Engine
from service.supervision import Supervisor
from service.telemetry.metrics import Background

#: How late watchers may learn of a change, seconds: one look for all of them, none while nobody watches.
EVERY_S = 0.25
#: Watchers at once: they show no key.
MOST_WATCHERS = 1024

Status = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """`services`: the names that may be asked for; "" is the whole server."""

    def __init__(self, engine: Engine, services: tuple[str, ...], supervisor: Supervisor) -> None:
        self._engine = engine
        self._supervisor = supervisor
        self._services = frozenset(services) | {""}
        self._stopping = False
        self._changed = asyncio.Event()
        self._watchers = 0
        self._looking: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Answer NOT_SERVING from now on, and end all watches."""
        self._stopping = True
        self._changed.set()

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the present status of the service that is asked about; NOT_FOUND for an unknown one."""
        status = self._status(request)
        if status == Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Status(status=status)

    async def List(self, request: Any, context: Any) -> Any:
        """Return the present status of every service."""
        status = Status(status=self._present())
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._services, status))

    async def Watch(self, request: Any, context: Any) -> None:
        """Write the status now, and again whenever it changes."""
        if self._watchers >= MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHERS} watch already; use Check")
        self._watchers += 1
        if self._looking is None:
            self._looking = self._supervisor.loop(Background.HEALTH_WATCH, self._look)
        try:
            last = None
            while True:
                # Looked at before the status is: who is told while a stop begins is told of that, too.
                change, is_last = self._changed, self._stopping
                status = self._status(request)
                if status != last:
                    await context.write(Status(status=status))
                    last = status
                if is_last:
                    return  # a watch that stayed would keep the server from ending
                await change.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        """Wake every watcher when the engine's readiness has changed."""
        last = self._engine.readiness().ready
        while True:
            await asyncio.sleep(EVERY_S)
            ready = self._engine.readiness().ready
            if ready != last and not self._stopping:
                last, waiting = ready, self._changed
                self._changed = asyncio.Event()
                waiting.set()

    def _status(self, request: Any) -> int:
        if getattr(request, "service", None) not in self._services:
            return int(Status.SERVICE_UNKNOWN)
        return self._present()

    def _present(self) -> int:
        ready = not self._stopping and self._engine.readiness().ready
        return int(Status.SERVING if ready else Status.NOT_SERVING)
