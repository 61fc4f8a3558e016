"""Drives one concealed stream: a tick out at each interval, whatever frames come in.

Knows no transport. What is shown is decided in `concealment`; here are the clock, the engine and the codecs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from service.app_state import AppState
from service.core.api_keys import Scope
from service.core.errors import ServiceError
from service.serving import prediction
from service.serving.prediction import Caller, EncodedPrediction
from service.serving.streaming.concealment import Concealer, Concealment, LeadingPair, NumberedFrame, Tick, TickSource
from service.serving.streaming.freezes import FreezeCounter
from service.serving.streaming.messages import (
    ConcealmentReport,
    Draining,
    FrameMessage,
    Incoming,
    InvalidMessage,
    Reset,
    ShownTick,
    StreamRequest,
    Summary,
)
from service.serving.streaming.opening import decoded, next_message
from service.serving.streaming.registry import StreamSlot
from service.serving.streaming.score_keeper import ScoreKeeper
from service.serving.streaming.session import MAX_ID, Answer, Failed, Tag
from service.telemetry.metrics import Transport

log = logging.getLogger("service.stream")

#: Pairs that wait for their prediction: a newer one is of more use.
MOST_PAIRS = 4
#: Seconds by which a tick may be early.
EARLY_S = 0.001
#: Messages that could not be used and have not been answered yet.
MOST_FAILURES = 256

Reply = Answer[EncodedPrediction] | ShownTick | Summary | Draining


class ConcealedStream:
    """One stream. `sleep`: waits for so many seconds of the state's clock."""

    def __init__(
        self,
        state: AppState,
        request: StreamRequest,
        transport: Transport,
        *,
        client: str,
        identity: str,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        assert request.conceal is not None
        self._state, self._request, self._transport = state, request, transport
        self._client, self._identity, self._sleep = client, identity, sleep
        is_counted = state.settings.max_client_items > 0
        self._predicted_for = request.client_of_predictions(client, identity, is_counted=is_counted)
        self._config: Concealment = request.conceal
        self._concealer = Concealer(self._config)
        self._scores = ScoreKeeper(state.metrics.stream_quality, state.version_scores)
        self._freezes, self._freezes_repeating = FreezeCounter(), FreezeCounter()
        self._pairs: deque[LeadingPair] = deque(maxlen=MOST_PAIRS)
        self._failures: deque[Answer[EncodedPrediction]] = deque(maxlen=MOST_FAILURES)
        self._news = asyncio.Event()  #: a frame came, or none will
        self._work = asyncio.Event()  #: a pair waits
        self._sequence = 0
        self._first_us: int | None = None
        self._reader: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()  #: ticks by what they showed, for the log line of the stream's end

    async def answers(self, incoming: AsyncIterable[Incoming]) -> AsyncGenerator[Reply, None]:
        """Yield each tick when it is due, a summary at the end; Draining if the server ends the stream."""
        settings, metrics = self._state.settings, self._state.metrics
        is_draining = False

        def drain() -> None:
            nonlocal is_draining
            is_draining = True
            if self._reader is not None:
                self._reader.cancel()

        with self._state.streams.place(
            self._client, drain, most=settings.max_streams, most_of_client=settings.max_client_streams
        ) as place:
            metrics.stream_opened(self._transport)
            # awaited: _ticks raises what it raised
            self._reader = asyncio.create_task(self._read(incoming, place))
            self._reader.add_done_callback(lambda _: self._news.set())
            # owned: by the stream, which ends it below; _predict answers for its errors
            predictor = asyncio.create_task(self._predict_pairs(place))
            try:
                async with aclosing(self._ticks(self._reader)) as replies:
                    async for reply in replies:
                        yield reply
                yield await self._summary()
                if is_draining:
                    yield Draining()
            finally:
                self._reader.cancel()
                predictor.cancel()
                await asyncio.gather(self._reader, predictor, return_exceptions=True)
                await self._scores.close()
                metrics.stream_closed(self._transport)

    @property
    def is_answered(self) -> bool:
        """Tell whether every frame that was taken has been shown."""
        return self._concealer.is_over

    async def _ticks(self, reader: asyncio.Task[None]) -> AsyncGenerator[Reply, None]:
        while True:
            while self._failures:
                yield self._failures.popleft()
            due = self._concealer.due()
            if reader.done():
                error = None if reader.cancelled() else reader.exception()
                # What we ended is shown to its end; a client that is gone sees nothing more.
                if error is not None and (self._concealer.is_over or not isinstance(error, ServiceError)):
                    raise error
                if self._concealer.is_over:
                    return
            if due is None:
                self._news.clear()
                if not reader.done():
                    await self._news.wait()
                continue
            await self._sleep(max(0.0, due - self._state.clock()))
            due = self._concealer.due()  # anew: the clock follows the sender's, and a reset may have come
            if due is not None and due - self._state.clock() <= EARLY_S:
                yield await self._shown(self._concealer.tick())

    async def _shown(self, tick: Tick) -> ShownTick:
        source, now, metrics = tick.source, self._state.clock(), self._state.metrics.stream_quality
        if source is not TickSource.REPEATED:
            metrics.froze("shown", self._freezes.shown(now))
        if source in (TickSource.REAL, TickSource.BLENDED):
            metrics.froze("repeating", self._freezes_repeating.shown(now))
        metrics.ticked(source.value)
        self.counts[f"frames_{source.value}"] += 1
        shown_tick = ShownTick(tick.number, source, tick.frame_id, self._time_us(tick.number))
        if source in (TickSource.REAL, TickSource.REPEATED):
            return shown_tick
        frame = await asyncio.to_thread(tick.picture)
        assert frame is not None
        picture = await self._state.codecs.encode(frame, self._request.format, self._request.image_quality)
        return replace(shown_tick, picture=picture, format=self._request.format, height=frame.height, width=frame.width)

    def _time_us(self, number: int) -> int | None:
        return None if self._first_us is None else self._first_us + round(number * self._config.interval * 1e6)

    async def _read(self, incoming: AsyncIterable[Incoming], place: StreamSlot) -> None:
        settings, source = self._state.settings, aiter(incoming)
        while (message := await next_message(source, settings.stream_idle_s)) is not None:
            self._state.access.require(self._client, Scope.STREAMS, self._request.key_digest)
            if isinstance(message, Reset):
                self._concealer.reset()
                self._first_us = None
                continue
            arrival = self._state.clock()
            sequence, self._sequence = self._sequence, self._sequence + 1
            try:
                frame = await decoded(self._state, message, arrival + self._config.interval)
                place.hold_frame(self._concealer.nbytes + frame.pixels.nbytes, settings.max_stream_bytes)
            except ServiceError as error:
                tag = Tag(sequence, message.frame_id[:MAX_ID], message.time_us, arrival, arrival)
                self._failures.append(Answer(tag, Failed(error)))
                self.counts["frames_error"] += 1
                continue
            assert not isinstance(message, InvalidMessage)  # which is never decoded
            self._arrived(NumberedFrame(self._number(message, sequence), frame, message.frame_id), arrival)

    def _arrived(self, numbered_frame: NumberedFrame, arrival: float) -> None:
        pair = self._concealer.arrived(numbered_frame, arrival)
        tag = Tag(numbered_frame.number, time_us=round(numbered_frame.number * self._config.interval * 1e6))
        self._scores.arrived(tag, numbered_frame.frame, begins_pair=pair is None)
        if pair is not None:
            self._pairs.append(pair)
            self._work.set()
        self._news.set()

    def _number(self, message: FrameMessage, sequence: int) -> int:
        """Return the frame's place on the clock: its number, or by its time, or in the order in which frames come."""
        if message.number is not None:
            return message.number
        if message.time_us is None:
            return sequence
        if self._first_us is None or message.time_us < self._first_us:
            self._concealer.reset()  # the sender's clock went back to before its first frame
            self._first_us = message.time_us
        return round((message.time_us - self._first_us) * self._config.fps / 1e6)

    async def _predict_pairs(self, place: StreamSlot) -> None:
        while True:
            self._work.clear()
            while self._pairs:
                await self._predict(self._pairs.popleft(), place)
            await self._work.wait()

    async def _predict(self, pair: LeadingPair, place: StreamSlot) -> None:
        request, now = self._request, self._state.clock()
        limit = request.frame_deadline_s or self._state.settings.default_deadline_ms / 1000
        deadline = now + limit if request.deadline is None else min(now + limit, request.deadline)
        caller = Caller(f"{self._identity}.{pair.current.number}", self._predicted_for, deadline, request.traceparent)
        options = replace(request.options, steps=1, times=pair.times)
        try:
            await self._state.access.admit_next(self._client, Scope.STREAMS, self._request.key_digest)
            pair_request = prediction.build_request(caller, pair.previous.frame, pair.current.frame, options)
            prediction.admit(self._state, pair_request)
            result = await self._state.engine.predict(pair_request)
            frames = () if result.is_cut else tuple(step.frame for step in result.steps)
            self._concealer.predicted(pair, frames)
            place.hold_frame(self._concealer.nbytes, self._state.settings.max_stream_bytes)
        except ServiceError as error:
            # Nothing leads on from this pair then: a loss shows the frame before for longer.
            self.counts[f"predictions_{error.code}"] += 1
            return
        except Exception:
            log.exception("prediction failed", extra={"request_id": self._identity})
            self.counts["predictions_internal"] += 1
            return
        if frames:
            interval_us = self._config.interval * 1e6
            tag = Tag(pair.current.number, time_us=round(pair.current.number * interval_us))
            pace_us = round((pair.current.number - pair.previous.number) * interval_us)
            self._scores.predicted(tag, pace_us, pair.current.frame, result)

    async def _summary(self) -> Summary:
        outcomes = {
            name.removeprefix("frames_"): count for name, count in self.counts.items() if name.startswith("frames_")
        }
        ticks = {source.value: outcomes.pop(source.value, 0) for source in TickSource}
        report = ConcealmentReport(ticks, self._freezes.report(), self._freezes_repeating.report())
        return Summary(outcomes, await self._scores.final(), report)
