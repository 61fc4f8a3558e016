"""A clip of 300 frames over one stream: all accounted for, in order, and the same bytes as single calls give."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import pytest

from benchmarks.stream import LARGE, clip, start_message, stream
from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from tests.system.e2e.joined import joined

FRAMES = 300
SIZES = [(64, 96), pytest.param((256, 448), marks=pytest.mark.slow)]


async def _single(channel: Any, older: bytes, newer: bytes, size: tuple[int, int]) -> bytes:
    """What Predict answers to one pair."""
    frames = [pb.Frame(raw=pb.RawPicture(pixels=data, height=size[0], width=size[1])) for data in (older, newer)]
    stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
    answer = await stub.Predict(pb.PredictRequest(previous=frames[0], current=frames[1]))
    return bytes(answer.prediction.frames[0].raw.pixels)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("policy", ["latest", "all"])
async def test_every_frame_is_answered_or_reported_in_order(policy: str, size: tuple[int, int]) -> None:
    frames = clip(FRAMES, *size)
    async with joined() as service, grpc.aio.insecure_channel(service.grpc, options=LARGE) as channel:
        start = start_message(policy=policy, window=2)
        outcome, predicted = await stream(channel, frames, *size, fps=0, start=start, keep=True)
        single = {
            str(n): await _single(channel, older, newer, size)
            for n, (older, newer) in enumerate(itertools.pairwise(frames), start=1)
            if str(n) in predicted
        }
    assert outcome.in_order
    assert sum(outcome.outcomes.values()) == FRAMES
    assert outcome.outcomes["first"] == 1
    assert set(outcome.outcomes) <= {"first", "prediction", "dropped"}
    if policy == "all":
        assert outcome.outcomes == {"first": 1, "prediction": FRAMES - 1}
    assert len(predicted) == outcome.outcomes["prediction"]
    assert predicted == single
