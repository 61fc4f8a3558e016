"""Pictures of megabytes are read where they lie in a message, and what is read is what protobuf would read."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.rpc import long_fields
from service.rpc.long_fields import LONG, ReadMessage
from service.rpc.wire import delimited_head

PIXELS = random.Random(3).randbytes(2 * LONG)


def _read(data: bytes, kind: Any = pb.StreamPredictRequest) -> ReadMessage:
    return long_fields.read(data, kind.FromString, kind.DESCRIPTOR)


def _frame(**fields: Any) -> pb.StreamPredictRequest:
    raw = pb.RawPicture(pixels=PIXELS, height=2, width=LONG // 3, stride=LONG)
    return pb.StreamPredictRequest(frame=pb.Frame(frame_id="seven", raw=raw, number=7, **fields))


def test_a_long_field_is_a_view_of_the_message_and_empty_in_what_is_parsed() -> None:
    data = _frame().SerializeToString()
    read = _read(data)
    view = read.long["frame.raw.pixels"]
    assert (bytes(view), view.obj, view.readonly) == (PIXELS, data, True)
    expected = _frame()
    expected.frame.raw.pixels = b""
    assert read.message == expected
    assert read.bytes_of("frame.raw.pixels", lambda: b"") is view


def test_short_fields_are_parsed_as_ever() -> None:
    message = _frame()
    message.frame.raw.pixels = PIXELS[: LONG - 1]
    message.frame.frame_id = "x" * LONG  # so that the message is long, and the picture is not
    read = _read(message.SerializeToString())
    assert (read.message, dict(read.long)) == (message, {})
    assert read.bytes_of("frame.raw.pixels", lambda: b"parsed") == b"parsed"


def test_both_pictures_of_a_pair_and_files_are_found_by_their_names() -> None:
    message = pb.PredictRequest(
        previous=pb.Frame(encoded=PIXELS), current=pb.Frame(raw=pb.RawPicture(pixels=PIXELS[::-1])), request_id="a"
    )
    read = _read(message.SerializeToString(), pb.PredictRequest)
    assert {path: bytes(view) for path, view in read.long.items()} == {
        "previous.encoded": PIXELS,
        "current.raw.pixels": PIXELS[::-1],
    }
    assert read.message.previous.WhichOneof("picture") == "encoded"
    assert read.message.request_id == "a"


def _nested(*heads: tuple[int, bytes]) -> bytes:
    return b"".join(delimited_head(number, len(content)) + content for number, content in heads)


RAW = pb.RawPicture(pixels=PIXELS, height=1, width=2).SerializeToString()
SHORT_RAW = pb.RawPicture(pixels=b"short").SerializeToString()
UNUSUAL = {
    "pixels twice, the second one short": _nested((2, _nested((4, _nested((1, PIXELS), (1, b"short")))))),
    "a picture twice": _nested((2, _nested((4, RAW), (4, SHORT_RAW)))),
    "a picture twice, joined": _nested((2, _nested((4, RAW), (4, pb.RawPicture(stride=9).SerializeToString())))),
    "a file after pixels": _nested((2, _nested((4, RAW), (3, b"file")))),
    "pixels after a file": _nested((2, _nested((3, PIXELS), (4, SHORT_RAW)))),
    "a file between two pictures": _nested((2, _nested((4, RAW), (3, b"file"), (4, SHORT_RAW)))),
    "a frame twice": _nested((2, _nested((4, RAW))), (2, _nested((1, b"name")))),
    "a reset after the frame": _nested((2, _nested((4, RAW))), (3, b"")),
    "a field that nobody knows": _nested((2, _nested((4, RAW), (999, PIXELS)))),
    "a group": _nested((2, _nested((4, RAW)))) + b"\xa3\x3f\xa4\x3f",
}


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL)
def test_what_no_usual_client_writes_means_what_the_protocol_says(data: bytes) -> None:
    expected, read = pb.StreamPredictRequest.FromString(data), _read(data)
    pixels = read.bytes_of("frame.raw.pixels", lambda: read.message.frame.raw.pixels)
    file = read.bytes_of("frame.encoded", lambda: read.message.frame.encoded)
    kind = expected.frame.WhichOneof("picture")
    assert read.message.WhichOneof("message") == expected.WhichOneof("message")
    assert read.message.frame.WhichOneof("picture") == kind
    assert bytes(pixels) == expected.frame.raw.pixels
    assert bytes(file) == expected.frame.encoded
    assert read.message.frame.raw.stride == expected.frame.raw.stride


@pytest.mark.parametrize("cut", [1, 100, LONG, 2 * LONG])
def test_a_message_that_ends_within_a_field_is_refused_as_ever(cut: int) -> None:
    data = _frame().SerializeToString()[:-cut]
    with pytest.raises(DecodeError):
        _read(data)


def test_bytes_that_are_no_message_are_refused_as_ever_or_read_alike() -> None:
    chance = random.Random(5)
    whole = _frame(presentation_time_us=5).SerializeToString()
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            # Where heads are: before the pixels and behind them.
            data[chance.choice((chance.randrange(40), len(data) - 1 - chance.randrange(20)))] = chance.randrange(256)
        try:
            expected = pb.StreamPredictRequest.FromString(bytes(data))
        except DecodeError:
            refused += 1
            with pytest.raises(DecodeError):
                _read(bytes(data))
            continue
        read = _read(bytes(data))
        pixels = read.bytes_of("frame.raw.pixels", lambda read=read: read.message.frame.raw.pixels)  # type: ignore[misc]
        assert bytes(pixels) == expected.frame.raw.pixels
        assert read.message.frame.frame_id == expected.frame.frame_id
        assert read.message.frame.number == expected.frame.number
    assert 0 < refused < 300
