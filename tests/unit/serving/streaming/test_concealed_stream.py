"""The driver of a concealed stream, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import numpy as np
import pytest

from service.imaging.codec import ImageFormat
from service.serving.prediction import Picture
from service.serving.streaming.concealed_stream import ConcealedStream, Reply
from service.serving.streaming.concealment import Concealment, TickSource
from service.serving.streaming.messages import (
    ConcealmentReport,
    FrameMessage,
    Incoming,
    InvalidMessage,
    ShownTick,
    StreamRequest,
    Summary,
)
from service.serving.streaming.session import Answer
from service.serving.streaming.stream_kinds import open_stream
from service.telemetry.metrics import Transport
from tests.unit.rpc.small import SmallEngine, parts

REAL, BLENDED, PREDICTED, REPEATED = TickSource
INTERVAL = 0.1


class _Sender:
    """Frames that come at their times on a clock which goes on only when the stream sleeps."""

    def __init__(
        self, frames: Mapping[int, FrameMessage | InvalidMessage], engine: SmallEngine, unpaired: int = 1
    ) -> None:
        self._unpaired = unpaired  #: frames that have no predecessor
        self.now, self._frames, self._engine = 0.0, sorted(frames.items()), engine
        self._queue: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self._readable = 0
        self._release()

    async def sleep(self, seconds: float) -> None:
        """Let time pass: each frame comes when it is due, and all that it leads to is done before the next."""
        until = self.now + seconds
        await self._idle()
        while self._frames and self._frames[0][0] * INTERVAL <= until + 1e-9:
            self.now = max(self.now, self._frames[0][0] * INTERVAL)
            self._release()
            await self._idle()
        self.now = until

    async def _idle(self) -> None:
        async with asyncio.timeout(60):
            while (
                len(self._engine.asked) < self._readable - self._unpaired
                or self._engine.running
                or not self._queue.empty()
            ):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)

    def _is_busy(self) -> bool:
        engine = self._engine
        return len(engine.asked) < self._readable - self._unpaired or bool(engine.running) or not self._queue.empty()

    def _release(self) -> None:
        message = self._frames.pop(0)[1]
        self._queue.put_nowait(message)
        self._readable += isinstance(message, FrameMessage) and message.picture.shape is not None
        if not self._frames:
            self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[Incoming]:
        while (message := await self._queue.get()) is not None:
            yield message


def _frame(number: int, value: int) -> FrameMessage:
    pixels = np.full((32, 48, 3), value, np.uint8)
    return FrameMessage(Picture(pixels.tobytes(), (32, 48)), f"f{number}", number=number)


async def _played(
    frames: Mapping[int, FrameMessage | InvalidMessage], unpaired: int = 1
) -> tuple[list[Reply], SmallEngine, dict[str, float]]:
    engine = SmallEngine()
    sender = _Sender(frames, engine, unpaired)
    state = dataclasses.replace(parts(engine), clock=lambda: sender.now)
    request = StreamRequest(conceal=Concealment(1 / INTERVAL, most=4, blend=1, delay_s=INTERVAL / 2))
    stream = ConcealedStream(state, request, Transport.GRPC, client="", identity="s", sleep=sender.sleep)
    async with aclosing(stream.answers(sender.messages())) as answers:
        replies = [reply async for reply in answers]
    registry = state.metrics.registry
    ticks = {
        s.value: registry.get_sample_value("dmvfn_stream_ticks_total", {"source": s.value}) or 0 for s in TickSource
    }
    return replies, engine, ticks


async def test_each_tick_is_answered_with_what_is_shown_and_a_summary() -> None:
    frames = {number: _frame(number, 10 * number) for number in (0, 1, 2, 5, 6)}
    *ticks, last = (await _played(frames))[0]
    assert all(isinstance(tick, ShownTick) for tick in ticks)
    seen = [
        (tick.number, tick.source, tick.frame_id, None if tick.picture is None else tick.picture[0])
        for tick in ticks
        if isinstance(tick, ShownTick)
    ]
    assert seen == [
        *((0, REAL, "f0", None), (1, REAL, "f1", None), (2, REAL, "f2", None)),
        *((3, PREDICTED, "", 30), (4, PREDICTED, "", 38)),
        *((5, BLENDED, "f5", 49), (6, REAL, "f6", None)),
    ]
    assert isinstance(last, Summary)
    assert isinstance(last.concealed, ConcealmentReport)
    assert last.concealed.ticks == {"real": 4, "blended": 1, "predicted": 2, "repeated": 0}
    assert last.concealed.freezes.count == 0


async def test_one_prediction_serves_a_whole_burst_and_metrics_count_ticks() -> None:
    replies, engine, ticks = await _played({number: _frame(number, number) for number in (0, 1, 2, 6)})
    assert [asked.options.times for asked in engine.asked] == [(1, 2, 3, 4), (1, 2, 3, 4), (0.25, 0.5, 0.75, 1)]
    assert ticks == {"real": 3, "blended": 1, "predicted": 3, "repeated": 0}
    assert len(replies) == 8


async def test_a_frame_that_cannot_be_read_is_told_and_concealed() -> None:
    frames: dict[int, FrameMessage | InvalidMessage] = {number: _frame(number, 10 * number) for number in range(5)}
    frames[2] = FrameMessage(Picture(b"no picture"), "broken", number=2)
    replies, _, ticks = await _played(frames)
    assert [reply.tag.frame_id for reply in replies if isinstance(reply, Answer)] == ["broken"]
    assert ticks == {"real": 3, "blended": 1, "predicted": 1, "repeated": 0}


async def test_times_stand_for_numbers() -> None:
    frames = {
        number: dataclasses.replace(
            _frame(number, number), number=None, time_us=7_000_000 + number * 100_000 + 9_000 * (number % 2)
        )
        for number in (0, 1, 3)
    }
    replies, _, _ = await _played(frames)
    times = [(reply.number, reply.time_us) for reply in replies if isinstance(reply, ShownTick)]
    assert times == [(0, 7_000_000), (1, 7_100_000), (2, 7_200_000), (3, 7_300_000)]


async def test_a_clock_that_goes_back_before_its_first_frame_begins_anew() -> None:
    frames = {
        number: dataclasses.replace(_frame(number, number), number=None, time_us=time_us)
        for number, time_us in ((0, 7_000_000), (1, 7_100_000), (2, 100_000), (3, 200_000))
    }
    replies, _, _ = await _played(frames, unpaired=2)
    times = [reply.time_us for reply in replies if isinstance(reply, ShownTick)]
    assert times == [7_000_000, 7_100_000, 100_000, 200_000]
    assert min(reply.number for reply in replies if isinstance(reply, ShownTick)) == 0


async def test_a_client_that_is_gone_is_told_nothing_more() -> None:
    engine = SmallEngine()
    stream = ConcealedStream(
        parts(engine), StreamRequest(conceal=Concealment(1)), Transport.GRPC, client="", identity="s"
    )

    async def breaking() -> AsyncIterator[Incoming]:
        yield _frame(0, 0)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        _ = [reply async for reply in stream.answers(breaking())]


def test_a_request_to_conceal_opens_this_kind_of_stream() -> None:
    state = parts(SmallEngine())
    request = StreamRequest(conceal=Concealment(30), format=ImageFormat.JPEG)
    assert isinstance(open_stream(state, request, Transport.GRPC, client="", identity="s"), ConcealedStream)
