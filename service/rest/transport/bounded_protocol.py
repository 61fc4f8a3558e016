"""Bounds what uvicorn leaves open on a connection: the head of a request, silence, and readers that do not read.

`middleware` bounds everything behind the head (bodies, deadlines). `app.py` hands this class to uvicorn as `http=`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.rest.transport.answer_transport import AnswerTransport
from service.rest.transport.errors import last_answer
from service.rest.transport.reader_watch import ReaderWatch
from service.rest.transport.request_parser import RequestParser
from service.rest.transport.unframed_answer import UnframedAnswer, UnframedTransport

#: Where a request's ASGI scope tells how to wait for its answer to leave, and how to learn that its client did.
_DRAINED, _WATCH = "dmvfn.drained", "dmvfn.watch"


def drained(scope: Scope) -> Callable[[], Awaitable[bool]] | None:
    """Return a wait until the answer to this request has left the process; None on another server (in tests).

    It gives False where the connection broke while some of the answer was still there.
    """
    wait: Callable[[], Awaitable[bool]] | None = scope.get("extensions", {}).get(_DRAINED)
    return wait


def watch_client(scope: Scope, on_left: Callable[[], None]) -> Callable[[], object] | None:
    """Have `on_left` called once this request's client has left; return how to end that. None on another server."""
    watch: Callable[[Callable[[], None]], Callable[[], object]] | None = scope.get("extensions", {}).get(_WATCH)
    return None if watch is None else watch(on_left)


class TooManyPipelined(Exception):
    """More requests came on a connection than may wait there."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 on one connection, with an end to everything a client can make it wait for or keep."""

    #: Bytes of request line and headers, and of trailers.
    max_head: ClassVar[int] = 64 * 1024
    #: Requests that wait on a connection behind the one that is being answered.
    max_pipelined: ClassVar[int] = 64
    #: Seconds from a request's first byte to the end of its headers.
    head_seconds: ClassVar[float] = 10.0
    #: Seconds in which a client that is being answered must read something.
    stall_seconds: ClassVar[float] = 30.0

    parser: RequestParser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection. Where nothing is asked on it, it is kept as long as an idle one between requests."""
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # asyncio does this only where the listener was made with proto=IPPROTO_TCP, which create_server() does not.
            # Head and body are written one after the other: without it the body waits 40 ms for the client's ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unseen = 0
        self._is_cut = self._is_in_head = False
        self._has_left = False
        self._watchers: list[Callable[[], None]] = []
        self._head_timer: asyncio.TimerHandle | None = None
        self._reader_watch = ReaderWatch(transport, self.stall_seconds)
        self.parser = RequestParser(self)
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers of the connection, and note whether an answer is cut off by its end."""
        self._is_cut = self.flow.write_paused or (self.cycle is not None and not self.cycle.response_complete)
        self._cancel_head_timer()
        self._reader_watch.stop()
        super().connection_lost(exc)
        self._tell_left()

    def data_received(self, data: bytes) -> None:
        """Count bytes that lead to nothing (neither a whole head nor some body); refuse too many."""
        self._unseen += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unseen > self.max_head:
            self._refuse(431, f"the head of a request may have at most {self.max_head} bytes")
        elif self._is_in_head and self._head_timer is None:  # most heads arrive whole, and need no timer
            self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def on_message_begin(self) -> None:
        """Note that a head has begun: from the end of these bytes on, the rest of it has `head_seconds`.

        Raises TooManyPipelined, as thousands of small requests fit in what arrives at once.
        """
        if self.parser.is_repeating:
            return
        if len(self.pipeline) >= self.max_pipelined:
            raise TooManyPipelined
        super().on_message_begin()
        self._cancel_head_timer()
        self._is_in_head = True

    def on_url(self, url: bytes) -> None:
        """Note a piece of the target."""
        if not self.parser.is_repeating:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a field of the head. Trailers are none: who read the head, or changed it on the way, never saw them."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the head's time and count, as the head is whole."""
        if self.parser.is_repeating:
            return
        extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
        extensions[_DRAINED], extensions[_WATCH] = self._drained, self._watch_client
        self._unseen = 0
        self._is_in_head = False
        self._cancel_head_timer()
        if not self.flow.write_paused:
            self._reader_watch.stop()
        cycle_before: Any = self.cycle
        super().on_headers_complete()
        cycle: Any = self.cycle
        if cycle is cycle_before:  # an upgrade has none
            return
        if cycle.scope["http_version"] == "1.0":
            transport = UnframedTransport(self.transport, self.loop)
            cycle.transport, cycle.send = transport, UnframedAnswer(cycle, transport).send
            cycle.waiting_for_100_continue = False  # HTTP/1.0 knows no such answer (RFC 9110, 10.1.1)
        else:
            cycle.transport = AnswerTransport(self.transport, self.loop)

    def on_body(self, body: bytes) -> None:
        """Count afresh: bodies are bounded by the middleware."""
        self._unseen = 0
        # uvicorn adds to `body` what nobody has received yet, and hands out `bytes(body)`. Mostly that is one piece of
        # some hundred kilobytes: as bytes it is copied neither here nor there.
        cycle: Any = self.cycle
        if cycle is not None:
            if not cycle.body:
                cycle.body = b""
            elif isinstance(cycle.body, bytes):
                cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Count afresh: later bytes belong to the next request. After an offer that nobody takes, wait for the body."""
        self._unseen = 0
        if not self.parser.should_upgrade() or self.takes_offer():
            super().on_message_complete()

    def takes_offer(self) -> bool:
        """Return whether the request opens a WebSocket: of the protocols that one may offer, the only one taken."""
        return self._should_upgrade()

    def _get_upgrade(self) -> bytes | None:
        """Return the protocol that is offered; "Connection" may stand in several fields, of which uvicorn reads one."""
        wishes = b",".join(value for name, value in self.headers if name == b"connection").lower()
        offers = [value.lower() for name, value in self.headers if name == b"upgrade"]
        is_wish = b"upgrade" in map(bytes.strip, wishes.split(b","))
        return offers[-1] if offers and is_wish else None

    def on_response_complete(self) -> None:
        """Watch the client, where no further answer is due, until it has read the rest of this one."""
        super().on_response_complete()
        cycle: Any = self.cycle
        if cycle.response_complete:
            cycle.transport.flush()  # an answer without a body
            self._reader_watch.start()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the WebSocket's protocol; refuse while an answer of this one waits to be read."""
        if self.flow.write_paused or not (self.cycle is None or self.cycle.response_complete):
            self._refuse(400, "a WebSocket cannot be opened behind a request that is still being answered")
            return
        self._reader_watch.stop()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP in our form too."""
        error = sys.exception()
        if error is not None and isinstance(error.__context__, TooManyPipelined):
            self._refuse(400, f"at most {self.max_pipelined} requests may be sent ahead on a connection")
        else:
            self._refuse(400, "this is not a well-formed HTTP/1.1 request")

    def pause_writing(self) -> None:
        """Watch the client, which reads more slowly than we answer."""
        super().pause_writing()
        self._reader_watch.start()

    def resume_writing(self) -> None:
        """Stop watching the client, which has read enough."""
        self._reader_watch.stop()
        super().resume_writing()

    async def _drained(self) -> bool:
        """Wait until at most a few kilobytes are unread, or the connection is gone; tell if it was the former."""
        await self.flow.drain()
        return not self._is_cut

    def _watch_client(self, on_left: Callable[[], None]) -> Callable[[], object]:
        if self._has_left:
            return self.loop.call_soon(on_left).cancel
        self._watchers.append(on_left)
        # A body of some size paused it, and nobody who does not read sees the end of a connection.
        self.flow.resume_reading()
        return partial(self._forget_watcher, on_left)

    def _forget_watcher(self, on_left: Callable[[], None]) -> None:
        if on_left in self._watchers:
            self._watchers.remove(on_left)

    def _tell_left(self) -> None:
        self._has_left = True
        watchers, self._watchers = self._watchers, []
        for on_left in watchers:
            on_left()

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, f"the head of a request must arrive within {self.head_seconds:g} s")

    def _refuse(self, status: int, why: str) -> None:
        """Answer without the application, and close; where an answer is being written, only close."""
        running = self.cycle is not None and not self.cycle.response_complete
        if running and not self.cycle.response_started:
            # The application waits for a body that will not come: to it, the client left.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._tell_left()
            running = False
        if not running:
            self.transport.write(last_answer(status, why))
        self.transport.close()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
