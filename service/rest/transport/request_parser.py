"""Parses requests as httptools does, and reads also the body of a request that offers to go on in another protocol.

Knows no connection and no answer: what it finds goes to the protocol that it was made with.
"""

from __future__ import annotations

from array import array
from typing import Protocol

import httptools

#: The fields that say how long a body is, or how its end is told.
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class RequestHandler(Protocol):
    """What the parser asks of the protocol that it reports to, beside httptools' callbacks."""

    #: Names, in lower case, and values of the head that was parsed last.
    headers: list[tuple[bytes, bytes]]

    def takes_offer(self) -> bool:
        """Return whether the connection goes on in the protocol that this head offers."""
        ...


class RequestParser(httptools.HttpRequestParser):
    """A parser of one connection's requests.

    A server may leave the offer of another protocol alone, and answer as without it (RFC 9110, 7.8). httptools ends
    each request with an offer at its head, and takes what follows for the other protocol's. Where nobody takes the
    offer, that is the request's body, and then further requests.
    """

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        #: Whether a head is parsed that has been reported before.
        self.is_repeating = False
        self._begin()

    def _begin(self) -> None:
        """Expect the beginning of a request, whatever was parsed before."""
        super().__init__(self._handler)
        # As uvicorn has it: requests that were sent behind one that closes are left unanswered, and are no error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes | bytearray | memoryview | array[int]) -> None:
        """Parse what arrived next. Raises HttpParserError where it is not HTTP, HttpParserUpgrade at a taken offer."""
        while data:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self._handler.takes_offer():
                    raise
                data = data[offer.args[0] :]
            self._repeat_head()

    def _repeat_head(self) -> None:
        """Parse the head once more, without its offer, so that its body is what is expected next."""
        lines = [b"%b: %b\r\n" % field for field in self._handler.headers if field[0] in _FRAMING]
        self._begin()  # behind a head that closes, the parser would expect nothing any more
        self.is_repeating = True
        try:
            super().feed_data(b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")
        finally:
            self.is_repeating = False
