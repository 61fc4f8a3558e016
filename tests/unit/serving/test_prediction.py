"""The steps from two pictures to an encoded answer: at once where they can be, and nothing left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading

import pytest

from service.core.errors import DeadlineExceeded, QueueFull, UnsupportedMedia
from service.core.size_seconds import REMEMBERED
from service.core.types import MAX_SEED, Frame, Options, PredictRequest, Quality, RouteChoice, RoutePolicy
from service.imaging.codec import ImageFormat
from service.imaging.codec_pool import MOST_S
from service.serving import prediction
from service.serving.byte_budget import ByteBudget, ByteHolding
from service.serving.prediction import Caller, PairTimes, Picture, PicturePair
from tests.unit.imaging.pictures import file_of
from tests.unit.rpc.small import SmallEngine, extrapolated, parts, picture

PNGS = PicturePair(Picture(file_of(picture(0), "PNG")), Picture(file_of(picture(1), "PNG")))


class MeetingHolding(ByteHolding):
    """A share of memory in which nobody reserves alone: each waits until the other reserves, too."""

    def __init__(self) -> None:
        super().__init__(ByteBudget(2**30))
        self.barrier = threading.Barrier(2, timeout=60)

    def grow(self, count: int) -> None:
        self.barrier.wait()
        super().grow(count)


async def test_both_pictures_are_decoded_at_once_and_reserved_before() -> None:
    state, holding = parts(SmallEngine(), codec_threads=2), MeetingHolding()
    previous, current = await prediction.decode_pair(state, PNGS, holding)
    assert holding.nbytes == previous.pixels.nbytes + current.pixels.nbytes
    assert (previous.pixels == picture(0)).all()
    assert (current.pixels == picture(1)).all()


@pytest.mark.parametrize("which", [0, 1])
async def test_a_picture_that_is_none_is_named_and_the_other_left(which: int) -> None:
    state = parts(SmallEngine(), codec_threads=2)
    pictures = [PNGS.previous, PNGS.current]
    pictures[which] = Picture(b"no picture")
    with pytest.raises(UnsupportedMedia) as raised:
        await prediction.decode_pair(state, PicturePair(pictures[0], pictures[1], ("first", "second")))
    assert raised.value.field == ("first", "second")[which]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_first_error_cancels_the_others_and_waits_for_their_end() -> None:
    ends: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("cancelled")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise QueueFull("no room")

    with pytest.raises(QueueFull):
        await prediction.together([endless(), failing(), endless()])
    assert ends == ["cancelled", "cancelled"]


async def test_every_step_is_encoded_in_its_place() -> None:
    state = parts(SmallEngine())
    value = await prediction.predict(
        state, PNGS, Options(steps=3), ImageFormat.RAW, None, Caller("c"), times=PairTimes(40_000, 20_000)
    )
    assert list(value.pictures) == [pixels.tobytes() for pixels in extrapolated(picture(0), picture(1), 3)]
    assert value.times_us == (60_000, 80_000, 100_000)
    assert [name for name, _ in value.stages] == ["decode", "queue", "route", "blocks", "encode"]
    assert value.log_fields()["route"] == ",".join(["1" * 9] * 3)
    assert "spare_ms" not in value.log_fields()


async def test_no_room_for_the_answer_refuses_before_the_engine() -> None:
    engine = SmallEngine()
    state = parts(engine)
    budget = ByteBudget(2 * 32 * 48 * 3 + 1000)
    budget.open().grow(900)
    with pytest.raises(QueueFull):
        await prediction.predict(
            state, PNGS, Options(steps=4), ImageFormat.RAW, None, Caller("c", holding=budget.open())
        )
    assert engine.asked == []


async def test_a_passed_deadline_is_counted_before_anything_is_decoded() -> None:
    state = parts(SmallEngine())
    caller = Caller("c", deadline=state.clock() - 1)
    nothing = PicturePair(Picture(b""), Picture(b""))
    with pytest.raises(DeadlineExceeded):
        await prediction.predict(state, nothing, Options(), ImageFormat.RAW, None, caller)
    assert state.metrics.registry.get_sample_value("dmvfn_deadline_missed_total", {"phase": "admit"}) == 1


def test_only_a_sampled_route_without_a_seed_gets_one() -> None:
    sample = Options(route=RouteChoice(RoutePolicy.SAMPLE))
    seeds = {prediction.with_seed(sample).route.seed for _ in range(5)}
    assert len(seeds) > 1
    assert all(seed is not None and 0 <= seed <= MAX_SEED for seed in seeds)
    for options in (Options(), Options(route=RouteChoice(RoutePolicy.SAMPLE, seed=5))):
        assert prediction.with_seed(options) is options


async def test_an_adaptive_request_gets_the_time_that_its_encoding_leaves() -> None:
    """What no engine answers is answered at the end of its time: once that was its caller's, encoding made it late."""
    engine = SmallEngine()
    state = dataclasses.replace(parts(engine), clock=lambda: 100.0)
    adaptive, frame = Options(quality=Quality.ADAPTIVE), Frame(picture(0))
    for _ in range(REMEMBERED):
        state.codecs.learn_encoding(frame, ImageFormat.PNG, 0.03)
    for options, format, deadline in (
        (adaptive, ImageFormat.PNG, 101.0),
        (dataclasses.replace(adaptive, steps=3), ImageFormat.PNG, 101.0),
        (adaptive, ImageFormat.PNG, 100.01),
        (Options(), ImageFormat.PNG, 101.0),
        (adaptive, ImageFormat.PNG, None),
    ):
        await prediction.predict(state, PNGS, options, format, None, Caller("c", deadline=deadline))
    deadlines = [request.deadline for request in engine.asked]
    assert deadlines == [pytest.approx(100.97), pytest.approx(100.91), pytest.approx(100.005), 101.0, None]


async def test_how_long_encoding_takes_is_learnt_by_size_and_format() -> None:
    state, frame = parts(SmallEngine()), Frame(picture(0))
    before = state.codecs.expect_encoding(frame, ImageFormat.PNG)
    clock = itertools.count(0.0, 1.5)
    clocked = dataclasses.replace(state, clock=lambda: next(clock))
    result = await state.engine.predict(PredictRequest("r", frame, frame, Options(steps=3)))
    await prediction.encode(clocked, result, ImageFormat.PNG, None)
    assert state.codecs.expect_encoding(frame, ImageFormat.PNG) == before, "others have no use for it"
    await prediction.encode(clocked, result, ImageFormat.PNG, None, is_adaptive=True)
    assert state.codecs.expect_encoding(frame, ImageFormat.PNG) == MOST_S, "at most so much is learnt of one"
    assert state.codecs.expect_encoding(frame, ImageFormat.JPEG) == before, "another format is another matter"
