"""A link to Redis of so many bytes a second, shared by all its connections, as a network of a busy node is."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

CHUNK = 4096  #: bytes; what one connection may send before another's turn


class Link:
    """Forwards a unix socket to another; `bandwidth` bytes a second towards the server, 0: as fast as it can."""

    def __init__(self, socket: Path, server: Path) -> None:
        self.socket = socket
        self.bandwidth = 0.0
        self._server = server
        self._turn = asyncio.Lock()
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to listen."""
        self._listener = await asyncio.start_unix_server(self._serve, str(self.socket), limit=CHUNK)

    async def stop(self) -> None:
        """Cuts all connections."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._server), limit=CHUNK)
            up = asyncio.create_task(self._pump(reader, up_writer, narrow=True))
            down = asyncio.create_task(self._pump(up_reader, writer, narrow=False))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in (up, down):
                    pump.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
                up_writer.close()
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, narrow: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if narrow and self.bandwidth:
                    async with self._turn:
                        if self.bandwidth:  # it may be wide again by the time of this turn
                            await asyncio.sleep(len(chunk) / self.bandwidth)
                writer.write(chunk)
                await writer.drain()
