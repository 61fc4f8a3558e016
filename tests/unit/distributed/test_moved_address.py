"""One address, behind which another server becomes the primary while connections to the one before live on.

So does a Service of Kubernetes, or the name of a managed server. The one before answers, as a replica without writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from service.core.errors import Unavailable
from service.core.types import PredictRequest
from service.settings import Settings
from tests.unit.distributed.conftest import bench_of, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.other_ways import free_port
from tests.unit.distributed.servers import Server, binaries, binary, running
from tests.unit.distributed.worker.test_worker import a_job, ended, jobs_of

#: The words of a refusal within a script are others in 6.2.
PROGRAMS = {binary(), *(path for name, path in binaries().items() if name == "redis-6.2")}
ASKED = PredictRequest("r", frame(3), frame(4))


class Address:
    """A unix socket whose new connections go to `target`; those that there are stay where they are."""

    def __init__(self, socket: Path, target: Path) -> None:
        self.socket, self.target = socket, target
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        listener = await asyncio.start_unix_server(self._serve, str(self.socket))
        try:
            yield
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_unix_connection(str(self.target))
            ways = [asyncio.create_task(_forward(reader, up_writer)), asyncio.create_task(_forward(up_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                up_writer.close()
        writer.close()
        self._tasks.discard(task)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)


def replicate(admin: redis.Redis, port: int | None) -> None:
    address = ("NO", "ONE") if port is None else ("127.0.0.1", str(port))
    admin.execute_command("REPLICAOF", *address)  # type: ignore[no-untyped-call]


def has_its_primary(admin: redis.Redis) -> bool:
    info: Any = admin.info("replication")
    return bool(info.get("master_link_status") == "up")


@asynccontextmanager
async def pair(program: Path, folder: Path) -> AsyncIterator[tuple[Address, tuple[Server, int], tuple[Server, int]]]:
    """An address, the primary behind it, and that one's replica, which has all that was written."""
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(running(program, "--port", str(port), "--repl-diskless-sync-delay", "0"))
            for port in ports
        )
        with two.client() as admin:
            replicate(admin, ports[0])
            await until(lambda: has_its_primary(admin))
        # A unix socket's path may have 107 bytes only.
        address = Address(one.folder / "address", one.socket)
        async with address.listening():
            yield address, (one, ports[0]), (two, ports[1])


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_front_end_and_worker_follow_their_address_to_the_new_primary(program: Path, tmp_path: Path) -> None:
    """They spoke to the one before for ever: not ready, and nothing was claimed or answered."""
    async with pair(program, tmp_path) as (address, (one, _), (two, port)):
        settings = Settings(engine="redis", redis_url=f"unix://{address.socket}", lease_ms=600, shutdown_grace_s=5.0)
        async with bench_of(settings) as bench, bench.work(Adder()) as worker:
            assert alike(await bench.engine.predict(ASKED), answer(ASKED))
            with one.client() as before, two.client() as after:
                replicate(after, None)
                address.target = two.socket
                replicate(before, port)
                # Signs of life of both are written where the address leads now.
                keys = bench.keys
                for key in (keys.front(bench.front.name), keys.info(worker.name)):
                    after.delete(key)
                    await until(lambda key=key: bool(after.exists(key)), 20)  # type: ignore[misc]
            await until(lambda: bench.front.readiness().ready, 20)
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(Unavailable):
                        assert alike(await bench.engine.predict(ASKED), answer(ASKED))
                        break
                    await asyncio.sleep(0.1)
            job, jobs = a_job(1, 2, 3), jobs_of(bench)
            await jobs.submit(job)
            async with asyncio.timeout(20):
                await ended(jobs, job.id)
            assert (await jobs.get(job.id, "")).done == 2
