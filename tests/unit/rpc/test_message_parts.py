"""A message that is written in parts is the message that protobuf would write, and its long fields are copied once."""

from __future__ import annotations

import tracemalloc

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.rpc.message_parts import MessageParts

PIXELS = bytes(range(256)) * 8192


def _answer(pixels: bytes | memoryview) -> MessageParts:
    raw = MessageParts(pb.RawPicture(height=4, width=5, stride=15))
    raw.add("pixels", pixels)
    frame = MessageParts(pb.PredictedFrame(route="0", flops=9))
    frame.add("raw", raw)
    prediction = MessageParts(pb.Prediction(model_version="one", frames=[pb.PredictedFrame(flops=1)]))
    prediction.add("frames", frame)
    answer = MessageParts(pb.StreamPredictResponse(frame_id="a", sequence=300))
    answer.add("prediction", prediction)
    return answer


def test_parts_are_read_as_the_whole_message() -> None:
    frame = pb.PredictedFrame(route="0", flops=9, raw=pb.RawPicture(pixels=PIXELS, height=4, width=5, stride=15))
    expected = pb.StreamPredictResponse(
        frame_id="a",
        sequence=300,
        prediction=pb.Prediction(model_version="one", frames=[pb.PredictedFrame(flops=1), frame]),
    )
    answer = _answer(memoryview(PIXELS))
    assert pb.StreamPredictResponse.FromString(answer.joined()) == expected
    assert answer.nbytes == len(answer.joined()) == expected.ByteSize()


def test_fields_of_any_length_are_read_again() -> None:
    for nbytes in (0, 1, 127, 128, 16383, 16384, 2**21):
        raw = MessageParts(pb.RawPicture(height=1))
        raw.add("pixels", PIXELS[:nbytes])
        assert pb.RawPicture.FromString(raw.joined()) == pb.RawPicture(height=1, pixels=PIXELS[:nbytes])


def test_long_fields_are_copied_once() -> None:
    tracemalloc.start()
    try:
        answer = _answer(memoryview(PIXELS))
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        written = answer.joined()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(written) <= peak - before < 1.1 * len(written)
    assert before < len(PIXELS) / 10
