"""A clip as an answer: in pieces, made or read on the way, whose end tells whether they are whole."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.core.errors import Internal, ServiceError
from service.rest.transport.context import Context
from service.rest.transport.disconnect import while_connected

log = logging.getLogger("service.rest")


class ClipResponse(StreamingResponse):
    """Sends `pieces` one after the other; an error among them closes the connection: half is not taken for whole.

    The error's code goes to `context`, for log line and metrics: the status went out long before. `nbytes`, where it is
    known, becomes the Content-Length; `complete` is true once all was sent. `headers` go with those.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        context: Context,
        media_type: str,
        nbytes: int | None = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        length = {} if nbytes is None else {"Content-Length": str(nbytes)}
        super().__init__(pieces, status, {**(headers or {}), **length}, media_type)
        self._pieces = pieces
        self._context = context
        self.complete = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Returns without its last message, which closes the connection, if it breaks off."""
        try:
            await while_connected(scope, receive, self.stream_response(send))
            self.complete = True
        except ServiceError as error:
            self._break_off(error)
        except Exception:
            log.exception("an answer failed on its way", extra={"request_id": self._context.request_id})
            self._break_off(Internal("internal error"))
        finally:
            await self._pieces.aclose()

    def _break_off(self, error: ServiceError) -> None:
        self._context.code = error.code
        level = logging.INFO if error.code == "cancelled" else logging.WARNING
        extra = {"request_id": self._context.request_id, "code": error.code}
        log.log(level, "an answer broke off: %s", error.message, extra=extra)
