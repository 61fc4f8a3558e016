"""`t` through the client library: REST, gRPC, streams and jobs give the same frames, and say when they are shown."""

from __future__ import annotations

import numpy as np
import pytest
from dmvfn_client import AsyncClient, Client, GrpcClient, InvalidInput, Prediction, Shot

from tests.unit.client.serving import Serving
from tests.unit.engine import tiny

PREVIOUS, CURRENT = (frame.pixels for frame in tiny.frames(2, 40, 56))
TIMES = (2.5, 1, 0.5)


def same(one: Prediction, other: Prediction) -> bool:
    pairs = zip(one.frames, other.frames, strict=True)
    return all(a.t == b.t and np.array_equal(a.pixels, b.pixels) for a, b in pairs) and one.flops == other.flops


async def test_every_way_gives_the_same_frames_at_the_moments_asked_for(running: Serving) -> None:
    shots = [Shot(PREVIOUS, time_us=0), Shot(CURRENT, time_us=40_000)]
    with Client(running.url) as rest, GrpcClient(running.grpc) as rpc:
        first = rest.predict(PREVIOUS, CURRENT, t=TIMES)
        assert same(rpc.predict(PREVIOUS, CURRENT, t=TIMES), first)
        assert same(rest.result(rest.submit([PREVIOUS, CURRENT], t=TIMES)), first)
        streamed = list(rpc.stream(shots, scene_cuts=False, t=TIMES))[-1].prediction
        alone = rest.predict(PREVIOUS, CURRENT, t=0.5)
        rolled = rest.predict(PREVIOUS, CURRENT, steps=2)
    async with AsyncClient(running.url) as rest:
        assert same(await rest.predict(PREVIOUS, CURRENT, t=TIMES), first)
    assert [frame.t for frame in first.frames] == [*TIMES]
    assert (alone.frames[0].t, first.cut) == (0.5, False)
    assert np.array_equal(alone.pixels, first.frames[2].pixels)
    assert np.array_equal(rolled.pixels, first.frames[1].pixels)
    assert [frame.t for frame in rolled.frames] == [None, None]
    assert streamed is not None
    assert same(streamed, first)
    assert [frame.time_us for frame in streamed.frames] == [140_000, 80_000, 60_000]


async def test_a_cut_is_said(running: Serving) -> None:
    other = np.zeros_like(CURRENT)
    other[:, ::2] = (250, 130, 200)
    with Client(running.url) as rest, GrpcClient(running.grpc) as rpc:
        for answer in (
            rest.predict(PREVIOUS, other, t=TIMES),
            rest.predict(PREVIOUS, other, t=2),
            rpc.predict(PREVIOUS, other, t=2),
        ):
            assert answer.cut
            assert all(np.array_equal(frame.pixels, other) for frame in answer.frames)


def test_moments_and_steps_are_refused_together_by_name(running: Serving) -> None:
    with Client(running.url) as rest, GrpcClient(running.grpc) as rpc:
        with pytest.raises(InvalidInput, match="steps means nothing with t") as refused:
            rest.predict(PREVIOUS, CURRENT, steps=2, t=1)
        assert refused.value.field == "steps"
        with pytest.raises(InvalidInput, match="steps means nothing with t"):
            rpc.predict(PREVIOUS, CURRENT, steps=2, t=1)
        with pytest.raises(InvalidInput, match="horizon means nothing with t") as refused:
            list(rpc.stream([PREVIOUS, CURRENT], horizon=2, t=1))
        assert refused.value.field == "start.horizon"
