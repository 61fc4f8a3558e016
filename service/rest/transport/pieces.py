"""An answer of many parts, sent one after the other: each is let go of as soon as its reader has it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.rest.transport.disconnect import while_connected
from service.serving.byte_budget import ByteHolding

#: Answers up to this many bytes are sent in one piece: each more costs a system call.
JOINED = 256 * 1024


class PiecedResponse(Response):
    """`pieces`, whose length is told before the first; what its reader has taken is given back to `holding`."""

    def __init__(
        self, pieces: Iterable[bytes], headers: Mapping[str, str], media_type: str | None, holding: ByteHolding
    ) -> None:
        self._pieces = deque(pieces)
        self._holding = holding
        nbytes = sum(map(len, self._pieces))
        if nbytes <= JOINED and len(self._pieces) > 1:
            self._pieces = deque((b"".join(self._pieces),))
        holding.settle(nbytes)
        super().__init__(None, 200, {**headers, "Content-Length": str(nbytes)}, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. A piece is taken only when the one before has left, but for the last few kilobytes."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        unread = 0
        while self._pieces:
            piece = self._pieces.popleft()
            await send({"type": "http.response.body", "body": piece, "more_body": bool(self._pieces)})
            self._holding.shrink(unread)
            unread = len(piece)


class MadeAsSent(Response):
    """Pieces made only when the one before has left; without a length, which nobody knows yet."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], media_type: str) -> None:
        self._source = pieces
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer as it is made; Cancelled where the client leaves on the way."""
        await while_connected(scope, receive, self._all(send))

    async def _all(self, send: Send) -> None:
        async with aclosing(self._source) as pieces:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                del piece
        await send({"type": "http.response.body", "body": b""})
