"""Drives one live stream: reads and decodes frames, runs what the session asks for, yields the answers in order.

Knows no transport: messages come from an async iterator, answers leave by another. Whoever iterates slowly slows the
whole: an answer's place in the window is free only when the next one is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from dataclasses import replace

from service.app_state import AppState
from service.core.api_keys import Scope
from service.core.errors import Internal, ServiceError
from service.core.types import Quality
from service.imaging.eager_encoding import EagerEncoding
from service.serving import prediction
from service.serving.prediction import Caller, EncodedPrediction, PairTimes
from service.serving.streaming.messages import (
    Draining,
    FrameMessage,
    Incoming,
    InvalidMessage,
    Reset,
    StreamRequest,
    Summary,
)
from service.serving.streaming.opening import decoded, next_message
from service.serving.streaming.predictor_trials import PredictorTrials
from service.serving.streaming.registry import StreamSlot
from service.serving.streaming.score_keeper import ScoreKeeper
from service.serving.streaming.session import (
    MAX_ID,
    Answer,
    Done,
    Failed,
    First,
    FirstReason,
    PendingPrediction,
    Session,
    Tag,
)
from service.serving.streaming.show_at import ShowTimes
from service.telemetry.metrics import Transport

log = logging.getLogger("service.stream")


class LiveStream:
    """One stream. `client` is whom limits count, "" where no keys are set; `identity` names it in logs and requests."""

    def __init__(
        self, state: AppState, request: StreamRequest, transport: Transport, *, client: str, identity: str
    ) -> None:
        self._state, self._request, self._transport = state, request, transport
        self._client, self._identity = client, identity
        is_counted = state.settings.max_client_items > 0
        self._predicted_for = request.client_of_predictions(client, identity, is_counted=is_counted)
        self._session: Session[EncodedPrediction] = Session(request.plan)
        self._room = asyncio.Event()  #: something may have become acceptable
        self._news = asyncio.Event()  #: something may have become ready
        self._owed: dict[int, int] = {}  #: bytes of answers begun, by sequence
        self._works: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._reading = False  #: the reader waits for the client, and holds nothing
        self._draining = False
        self._opened = state.clock()
        self._scores = ScoreKeeper(state.metrics.stream_quality, state.version_scores, is_told=request.score)
        self._trials: PredictorTrials | None = None  #: of others than what predicts, where the best may be chosen
        self._shows = None if request.show is None else ShowTimes(request.show)
        self.counts: Counter[str] = Counter()  #: answers by outcome, for the log line of the stream's end

    async def answers(
        self, incoming: AsyncIterable[Incoming]
    ) -> AsyncGenerator[Answer[EncodedPrediction] | Summary | Draining, None]:
        """Yield every frame's answer, in order; a summary if asked for; Draining if the server ends the stream.

        Closing the iterator withdraws all.
        """
        settings = self._state.settings
        with self._state.streams.place(
            self._client, self.drain, most=settings.max_streams, most_of_client=settings.max_client_streams
        ) as place:
            if self._request.choose:
                self._trials = PredictorTrials(self._state, place, self._request, self._client)
            self._state.metrics.stream_opened(self._transport)
            # awaited: its end wakes _in_order, which raises what it raised
            self._reader = asyncio.create_task(self._read(incoming, place))
            self._reader.add_done_callback(lambda _: self._news.set())
            try:
                async with aclosing(self._in_order(self._reader, place)) as answers:
                    async for answer in answers:
                        yield answer
                if self._request.has_summary:
                    outcomes = {name.removeprefix("frames_"): count for name, count in self.counts.items()}
                    yield Summary(outcomes, await self._scores.final())
                if self._draining:
                    yield Draining()
            finally:
                await self._stop()
                self._state.metrics.stream_closed(self._transport)

    @property
    def is_answered(self) -> bool:
        """Tell whether every frame that was taken has its answer."""
        return self._session.idle

    def drain(self) -> None:
        """Take no more frames; what was taken is answered."""
        self._draining = True
        self._room.set()
        if self._reading and self._reader is not None:
            self._reader.cancel()

    async def _in_order(
        self, reader: asyncio.Task[None], place: StreamSlot
    ) -> AsyncGenerator[Answer[EncodedPrediction], None]:
        first = True
        while True:
            self._news.clear()
            while (answer := self._session.ready()) is not None:
                if self._shows is not None:
                    answer = replace(answer, show=self._shows.replying(answer.tag.sequence, 1e6 * self._state.clock()))
                if self._request.score:
                    answer = replace(answer, score=self._scores.report())
                yield answer  # back here when it has been written: only then is its place free
                self._count(answer)
                if first and isinstance(answer.outcome, Done):
                    first = False
                    self._state.metrics.first_frame(self._state.clock() - self._opened)
                place.release_answer(self._owed.pop(answer.tag.sequence, 0))
                self._session.sent()
                self._advance(place)
            if reader.done():
                error = None if reader.cancelled() else reader.exception()
                # What we ended is answered to its end; a client that is gone hears no answers.
                if error is not None and (self._session.idle or not isinstance(error, ServiceError)):
                    raise error
                if self._session.idle:
                    return
            await self._news.wait()

    async def _read(self, incoming: AsyncIterable[Incoming], place: StreamSlot) -> None:
        settings = self._state.settings
        source = aiter(incoming)
        while not self._draining:
            if not self._session.accepting:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                self._reading = True
                message = await next_message(source, settings.stream_idle_s)
            finally:
                self._reading = False
            if message is None:
                return
            # Its key may be withdrawn while it goes on.
            self._state.access.require(self._client, Scope.STREAMS, self._request.key_digest)
            arrival = self._state.clock()
            if isinstance(message, Reset):
                self._session.reset()
                continue
            try:
                frame = await decoded(self._state, message, self._deadline(arrival))
                place.hold_frame(frame.pixels.nbytes, settings.max_stream_bytes)
            except ServiceError as error:
                self._session.push_failed(
                    error, frame_id=message.frame_id[:MAX_ID], time_us=message.time_us, arrived=arrival
                )
            else:
                read_time = self._state.clock()
                tag = self._session.push(
                    frame, frame_id=message.frame_id, time_us=message.time_us, arrived=arrival, read=read_time
                )
                self._take_stamps(tag, message)
                self._scores.arrived(tag, frame, begins_pair=self._session.begins_pair)
                if self._trials is not None:
                    self._trials.arrived(tag, frame, begins_pair=self._session.begins_pair)
            self._advance(place)

    def _advance(self, place: StreamSlot) -> None:
        """Begin what may begin, and wake whoever waits for a change."""
        for work in self._session.take():
            # owned: by the stream; _run makes every error the frame's outcome, and _stop ends it
            task = asyncio.create_task(self._run(work, place))
            self._works.add(task)
            task.add_done_callback(self._works.discard)
        self._room.set()
        self._news.set()

    async def _run(self, work: PendingPrediction, place: StreamSlot) -> None:
        outcome: Done[EncodedPrediction] | Failed
        request = self._request
        began, tag = self._state.clock(), work.tag
        try:
            await self._state.access.admit_next(self._client, Scope.STREAMS, self._request.key_digest)
            caller, options = self._caller(work), request.options
            if self._shows is not None:
                options = replace(options, times=self._shows.aim(tag.sequence, tag.time_us, work.pace_us))
            predictor = None if self._trials is None else self._trials.current
            if self._trials is not None and predictor is not None:
                options = self._trials.options(predictor, options.times)
            self._owe(work, place, options.frames)
            due = prediction.engine_deadline(self._state, caller.deadline, options, work.current, request.format)
            eager_encoding = EagerEncoding(
                self._state.codecs, self._state.clock, request.format, request.image_quality, caller.deadline
            )
            pair_request = prediction.build_request(
                replace(caller, deadline=due), work.previous, work.current, options, eager_encoding.begin
            )
            prediction.admit(self._state, pair_request)
            with eager_encoding:
                result = await self._state.engine.predict(pair_request)
                self._session.predicted(tag.sequence)
                self._scores.predicted(tag, work.pace_us, work.current, result)
                if self._trials is not None and predictor is not None:
                    self._trials.predicted(work, pair_request, result, predictor)
                self._advance(place)  # the engine is free: it need not wait for this one's encoding
                answer = await prediction.encode(
                    self._state,
                    result,
                    request.format,
                    request.image_quality,
                    caller.deadline,
                    PairTimes(tag.time_us, work.pace_us),
                    decode_seconds=tag.read - tag.arrived,
                    turn_seconds=began - tag.read,
                    is_adaptive=options.quality is Quality.ADAPTIVE,
                    eager_encoding=eager_encoding,
                )
            outcome = Done(answer if predictor is None else replace(answer, predictor=predictor.value))
        except ServiceError as error:
            outcome = Failed(error)
        except Exception:
            log.exception("prediction failed", extra={"request_id": self._identity})
            outcome = Failed(Internal(f"internal error; request {self._identity}"))
        self._session.finish(tag.sequence, outcome)
        self._advance(place)

    def _take_stamps(self, tag: Tag, message: FrameMessage | InvalidMessage) -> None:
        """Learn of the link, where the stream says when its frames are seen."""
        if self._shows is None or isinstance(message, InvalidMessage):
            return
        self._shows.arrived(tag.sequence, message.sent_us, 1e6 * tag.arrived)
        if message.receipt is not None and (miss_us := self._shows.receipt(message.receipt)) is not None:
            self._state.metrics.stream_quality.missed(miss_us / 1e6)

    def _owe(self, work: PendingPrediction, place: StreamSlot, frames: int) -> None:
        """Count the answer to come: its pixels, and their encoding of at most the same size."""
        nbytes = 2 * work.current.pixels.nbytes * frames
        place.reserve_answer(nbytes, self._state.settings.max_stream_bytes)
        self._owed[work.tag.sequence] = nbytes

    def _caller(self, work: PendingPrediction) -> Caller:
        tag = work.tag
        return Caller(
            f"{self._identity}.{tag.sequence}",
            self._predicted_for,
            self._deadline(tag.arrived),
            self._request.traceparent,
        )

    def _deadline(self, arrival: float) -> float:
        """Return when the answer to a frame that came at `arrival` must be there, seconds on the service's clock."""
        limit = self._request.frame_deadline_s
        deadline = arrival + (self._state.settings.default_deadline_ms / 1000 if limit is None else limit)
        return deadline if self._request.deadline is None else min(deadline, self._request.deadline)

    def _count(self, answer: Answer[EncodedPrediction]) -> None:
        match answer.outcome:
            case Done():
                outcome = "predicted"
            case First(why=FirstReason.SCENE_CUT):
                outcome = "scene_cut"
            case First(why=FirstReason.START):
                outcome = "first"
            case First():
                outcome = "reset"
            case Failed():
                outcome = "error"
            case _:
                outcome = "dropped"
        self._state.metrics.stream_frame(outcome)
        self.counts[f"frames_{outcome}"] += 1

    async def _stop(self) -> None:
        """Withdraw everything that has not been answered."""
        tasks = [*self._works] + ([self._reader] if self._reader is not None else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._trials is not None:
            await self._trials.close()
        await self._scores.close()
