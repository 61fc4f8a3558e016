"""How much of its frames a clip is counted with, and who waits for room."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from service.core.errors import QueueFull
from service.serving.video.clip_memory import DECODING, ENCODING, ClipMemory, clip_bytes
from service.serving.video.output_frames import VideoParams
from service.serving.video.plan import Ahead
from service.serving.video.render import frames_held
from service.serving.video.retimed_frames import RetimingParams
from tests.unit.serving.video.clips import HEIGHT, WIDTH, Held, moving


def test_a_clip_is_counted_by_its_size_its_plan_and_what_comes_out() -> None:
    source, plan, frame = Held(moving(2)), Ahead(3), 3 * HEIGHT * WIDTH
    assert clip_bytes(source, VideoParams(plan), 3) == frame * (frames_held(plan, 3) + DECODING + ENCODING)
    width, height = VideoParams(plan, compare=True).size(source)
    compared = frame * (frames_held(plan, 3) + DECODING) + 3 * width * height * ENCODING
    assert clip_bytes(source, VideoParams(plan, compare=True), 3) == compared
    retiming = RetimingParams(Fraction(60))
    assert clip_bytes(source, retiming, 1) == frame * (retiming.frames_held(1) + DECODING + ENCODING)


def test_five_clips_of_the_most_common_size_fit_the_default() -> None:
    frame = 3 * 1920 * 1080
    assert 5 * frame * (frames_held(Ahead(1), 1) + DECODING + ENCODING) <= 2**30


async def test_one_waits_the_other_is_refused_and_one_alone_is_always_taken() -> None:
    memory, turns = ClipMemory(100), list[str]()

    async def job() -> None:
        async with memory.hold(70, patient=True):
            turns.append("job")

    async with memory.hold(150, patient=False):
        waiting = asyncio.ensure_future(job())
        with pytest.raises(QueueFull, match="150 of 100 bytes of frames") as refused:
            async with memory.hold(1, patient=False):
                pass
        assert refused.value.retry_after == 5
        await asyncio.sleep(0)
        assert turns == []
    async with asyncio.timeout(60):
        await waiting
    assert (turns, memory.budget.held) == (["job"], 0)
