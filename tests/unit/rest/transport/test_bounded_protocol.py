"""Bodies as our protocol hands them on: whole, however many pieces they come in. Its bounds: `test_hostile`."""

from __future__ import annotations

import pytest

from tests.unit.imaging.pictures import Pixels
from tests.unit.rest.wired import wired

HEAD = (
    b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n"
    b"X-Frame-Shape: 2,32,48,3\r\nContent-Type: application/octet-stream\r\n"
)


def chunked(content: bytes, nbytes: int) -> bytes:
    """The rest of a head, and the content in pieces of `nbytes`, all sent at once."""
    pieces = [content[at : at + nbytes] for at in range(0, len(content), nbytes)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


@pytest.mark.parametrize("nbytes", [7, 4000, 10**6])
async def test_a_body_is_the_same_in_one_piece_and_in_many(nbytes: int, previous: Pixels, current: Pixels) -> None:
    content = previous.tobytes() + current.tobytes()
    async with wired() as service, service.connect() as wire:
        await wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        whole = await wire.answer()
        await wire.send(HEAD + chunked(content, nbytes))
        in_pieces = await wire.answer()
        assert (in_pieces.status, in_pieces.body) == (200, whole.body)
