"""The engine whose device is elsewhere: the same call as the local batcher, over Redis to a worker and back.

A call is carried with its deadline and withdrawn with its caller. It lives no longer than this process and its link to
Redis: when either is lost nobody waits for the answer, so nothing of it is kept. What must survive is a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from service.core.bucket import Bucket
from service.core.errors import ClientLimit, DeadlineExceeded, Internal, ServiceError, Unavailable
from service.core.interfaces import Readiness, ServedModel
from service.core.types import PredictRequest, PredictResult, Priority
from service.distributed.broker import buckets, serialization
from service.distributed.broker.client import FAILED, LOST, end, pipeline
from service.distributed.broker.off_loop import off_the_loop
from service.distributed.broker.submission import BEHIND_LIVE_S, Submission
from service.distributed.broker.transfers import Transfers
from service.distributed.frontend.own_replies import OwnReplies
from service.distributed.frontend.queue_client import LEAVE_S, QueueClient
from service.engine.scheduling.admission import Trials
from service.serving.answer_size import check_answer
from service.settings import Settings
from service.telemetry.metrics import Background, Metrics

#: Seconds an answered call's traces stay for a front end that is slow to fetch them.
KEEP_S = 60.0
#: Times that answers are asked for over a link on which they take longer than a connection may be silent.
FETCH_TRIES = 3
#: Bytes of answers that are fetched together; one larger than this is fetched alone.
COLLECTED_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    answer: asyncio.Future[PredictResult]
    request_id: str
    client: str
    nbytes: int  #: of its answer, at most


class QueuedEngine:
    """An `Engine` over a started `QueueClient`, whose `replies`, `lost` and `beat` it takes."""

    def __init__(
        self, settings: Settings, front: QueueClient, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._front = front
        self._metrics = metrics
        self._clock = clock
        self._calls: dict[str, _Call] = {}
        self._downloads = Transfers()
        self._trials = Trials()
        self._own_replies = OwnReplies(front, self._is_awaited, self._hand_over)
        self._unwanted: set[str] = set()  #: calls that nobody waits for and that are yet to be withdrawn
        front.beat = self._withdraw_unwanted
        front.replies = self._answered
        front.lost = self._lost

    def readiness(self) -> Readiness:
        """Return ready while Redis is there and workers have ever been."""
        return self._front.readiness()

    def model(self) -> ServedModel:
        """Return the model that the workers announce."""
        return self._front.model()

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Predict as `Engine.predict` does. Unavailable with `retry_after` when Redis goes away in between."""
        ready = self.readiness()
        if not ready.ready:
            raise Unavailable(f"not ready: {ready.reason}", reason=ready.reason, retry_after=2.0)
        deadline = request.deadline
        seconds = self._settings.default_deadline_ms / 1000 if deadline is None else deadline - self._clock()
        if seconds <= 0:
            self._metrics.deadline_missed("admit", is_covered=request.is_covered)
            raise DeadlineExceeded("the deadline has passed")
        self._front.announcements.check(request.options.version)
        self._admit(request)
        frame = request.current
        limit = self._front.capacity.answer_limit(self._settings)
        nbytes = check_answer(frame.width * frame.height, request.options, limit)
        # Its own id: two callers may choose one request id.
        call = uuid.uuid4().hex
        answer: asyncio.Future[PredictResult] = asyncio.get_running_loop().create_future()
        self._calls[call] = _Call(answer, request.id, request.client, nbytes)
        may_be_queued = False
        try:
            async with asyncio.timeout(seconds):
                may_be_queued = True  # from here on it may be in Redis, however the submission ends
                await self._unless_lost(self._submit(call, request, seconds, nbytes), answer)
                return await answer
        except TimeoutError:
            self._metrics.deadline_missed("queue", is_covered=request.is_covered)
            raise DeadlineExceeded("no answer within the deadline") from None
        except ServiceError as error:
            if error.code == "queue_full" or (error.code == "deadline_exceeded" and not request.is_covered):
                self._metrics.rejected(error.reason or error.code, buckets.label(_bucket(request)))
            raise
        finally:
            del self._calls[call]
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen: a loss that came while the submission failed is not news
            elif may_be_queued:
                self._unwanted.add(call)
                self._later(self._withdraw(call))

    def _admit(self, request: PredictRequest) -> None:
        limit = self._settings.max_client_items
        if limit and request.client and sum(call.client == request.client for call in self._calls.values()) >= limit:
            self._metrics.rejected("client_limit", buckets.label(_bucket(request)))
            raise ClientLimit(f"at most {limit} requests of one client at once", retry_after=1.0)

    async def _unless_lost(self, work: Coroutine[None, None, None], answer: asyncio.Future[PredictResult]) -> None:
        """Await `work`, but no longer than until `answer` is there: a loss of Redis is one."""
        task = asyncio.ensure_future(work)  # awaited: here, or ended here
        try:
            waits: set[asyncio.Future[Any]] = {task, answer}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await end(task)
            if not task.cancelled():
                task.exception()  # seen: raised above, unless the caller left in the same moment

    async def _submit(self, call: str, request: PredictRequest, seconds: float, nbytes: int) -> None:
        """Submit a call whose answer has `nbytes` at most, and begin to wait for it where it has a reply of its own."""
        if not self._own_replies.take_place(nbytes):
            await self._submit_call(call, request, seconds)
            return
        try:
            await self._submit_call(call, request, seconds, own_reply=True)
        except BaseException:
            self._own_replies.leave_place()
            raise
        self._own_replies.wait_for(call)

    async def _submit_call(
        self, call: str, request: PredictRequest, seconds: float, *, own_reply: bool = False
    ) -> None:
        options, bucket = request.options, _bucket(request)
        deadline = self._clock() + seconds
        frames = await off_the_loop(_sent_bytes(request), _packed, request)
        price = self._front.price(bucket, options)
        origin = (request.priority, request.client, request.traceparent)
        submission = Submission(
            id=call,
            frames=frames,
            items=1,
            priority=request.priority,
            bucket=buckets.name(bucket),
            work=price.most,
            saving=price.most - price.least,
            deadline=deadline - self._clock(),
            order=deadline - self._clock() if request.priority is Priority.LIVE else BEHIND_LIVE_S,
            keep=KEEP_S,
            task=serialization.task_bytes(options, *origin),
            client=request.client,
            holder=request.client,
            waits=True,
            own_reply=own_reply,
        )
        try:
            await self._front.submit(submission)
        except DeadlineExceeded as refusal:
            now = self._clock()
            is_tried = refusal.reason == "unmeetable" and self._trials.due_behind_others(price.least, deadline, now)
            if not is_tried:
                raise
            task = serialization.task_bytes(options, *origin, notes=[serialization.Note.TRIAL])
            left = deadline - now
            # What it is predicted to cost is in doubt: it must not refuse others for longer than its caller waits.
            trial = replace(submission, work=min(price.most, left), saving=0.0, deadline=left, task=task, is_trial=True)
            await self._front.submit(trial)

    def _answered(self, calls: list[str]) -> None:
        self._later(self._collect(calls))

    def _lost(self) -> None:
        for call, waiting in self._calls.items():
            if not waiting.answer.done():
                waiting.answer.set_exception(self._front.unavailable())
                # It may be in the queue, and would be run for nobody, just when everybody tries again.
                self._unwanted.add(call)

    async def _collect(self, calls: list[str]) -> None:
        """Fetch answers, a few megabytes at once: the listener may hear of hundreds together."""
        sizes = [self._calls[call].nbytes if call in self._calls else 0 for call in calls]
        start = 0
        while start < len(calls):
            end = start + 1
            while end < len(calls) and sum(sizes[start : end + 1]) <= COLLECTED_BYTES:
                end += 1
            async with self._downloads.place(sum(sizes[start:end])):
                await self._collect_group(calls[start:end])
            start = end

    async def _collect_group(self, calls: list[str]) -> None:
        keys = self._front.keys
        commands: list[tuple[str, ...]] = []
        for call in calls:
            commands += [("HGET", keys.job(call), "e"), ("GET", keys.out(call, 0))]
        try:
            answers = await self._fetch(commands)
        except LOST:
            for call in calls:
                self._settle(call, self._front.unavailable())
            return
        for call, failure, result in zip(calls, answers[::2], answers[1::2], strict=True):
            await self._hand_over(call, failure, result)
        # Only now: an answer whose way here broke is asked for again. Should this fail, their time runs out.
        with contextlib.suppress(*FAILED):
            await self._front.client.unlink(*(place for _, place, *_ in commands))

    def _is_awaited(self, call: str) -> bool:
        return call in self._calls and not self._calls[call].answer.done()

    async def _hand_over(self, call: str, failure: Any, result: Any) -> None:
        """Give a call what Redis has of its failure and its result, where its caller still waits."""
        if call in self._calls:
            nbytes = len(result) if isinstance(result, bytes) else 0
            outcome = await off_the_loop(nbytes, self._read, self._calls[call].request_id, failure, result)
            self._settle(call, outcome)

    async def _fetch(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        for tries_left in reversed(range(FETCH_TRIES)):
            try:
                return await pipeline(self._front.client, commands)
            except redis.TimeoutError:
                if not tries_left or not self._front.readiness().ready:
                    raise
        raise AssertionError("the last try returns or raises")

    @staticmethod
    def _read(request_id: str, failure: Any, result: Any) -> PredictResult | ServiceError:
        try:
            if isinstance(failure, bytes):
                return serialization.read_failure(failure).error()
            if isinstance(result, bytes):
                return serialization.read_result(result, request_id)
        except serialization.UnreadableEntry:
            return Internal("a worker of another version answered")
        # An error of the server, or nothing: it ran out, or a worker took this front end for dead and dropped the call.
        return Unavailable("the answer was lost", reason="queue_lost", retry_after=1.0)

    def _settle(self, call: str, outcome: PredictResult | ServiceError) -> None:
        waiting = self._calls.get(call)
        if waiting is None or waiting.answer.done():
            return
        if isinstance(outcome, ServiceError):
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome)

    async def _withdraw(self, call: str) -> None:
        with contextlib.suppress(*FAILED):  # then the next pulse tries again
            await self._front.withdraw(call, keep=KEEP_S, tell=False)
            self._unwanted.discard(call)

    async def _withdraw_unwanted(self) -> None:
        """Withdraw what could not be withdrawn when its caller left, at latest before Redis is said to be back."""
        calls = list(self._unwanted)
        await asyncio.gather(*(self._front.withdraw(call, keep=KEEP_S, tell=False) for call in calls))
        self._unwanted.difference_update(calls)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        self._front.supervisor.once(Background.REDIS_CALL, work)

    async def close(self) -> None:
        """Wait for withdrawals under way, LEAVE_S at most; then call `front.stop()`.

        What a silent Redis does not hear of then, workers drop when this front end's sign of life lapses.
        """
        await self._own_replies.close()
        if pending := self._front.supervisor.pending:
            await asyncio.wait(pending, timeout=LEAVE_S)
            await end(*pending)


def _packed(request: PredictRequest) -> dict[int, bytes]:
    return {0: serialization.frame_bytes(request.previous), 1: serialization.frame_bytes(request.current)}


def _sent_bytes(request: PredictRequest) -> int:
    """Count the bytes of both frames as they are sent: of files where they came as such."""
    frames = (request.previous, request.current)
    return sum(frame.pixels.nbytes if frame.source is None else len(frame.source) for frame in frames)


def _bucket(request: PredictRequest) -> Bucket:
    return Bucket.of(request.current.height, request.current.width, request.options.scale)
