"""Writes the head of an answer together with the beginning of its body. Knows nothing of what they hold.

Written apart, each costs a system call and a packet, and wakes the client, which can do nothing with a head alone.
"""

from __future__ import annotations

import asyncio


class AnswerTransport:
    """A connection for one answer. What is written first waits for what is written next, or the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""
        self._has_begun = False

    def write(self, data: bytes) -> None:
        """Write the next bytes of the answer."""
        if not self._has_begun:
            self._has_begun, self._head = True, data
            self._loop.call_soon(self.flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write what waits, if anything does and the connection is still open."""
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def is_closing(self) -> bool:
        """Tell whether the connection ends, or has ended."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection once all has been written."""
        self.flush()
        self._transport.close()
