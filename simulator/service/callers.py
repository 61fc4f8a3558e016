"""Those who ask: single calls, jobs, streams; what each was promised and got goes into one record."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from service.core.errors import NotFound, ServiceError, Unavailable
from service.core.types import Options, PredictRequest, Quality
from service.serving.jobs.job import NewJob, job_id
from service.serving.streaming.session import Done, DropPolicy, Failed, PendingPrediction, Session, StreamConfig
from simulator.history import Accepted, Ended
from simulator.service.device import answer_of, picture
from simulator.service.fleet import Fleet, FrontProcess
from simulator.service.virtual_loop import VirtualLoop

#: Height and width of what is asked for: the first is warm, the others are cold at first.
SIZES = ((16, 16), (16, 32), (32, 32))
#: Seconds after which a submission that is always refused gives up.
SUBMIT_S = 60.0


@dataclass
class Record:
    """What callers saw."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)  #: job -> its caller
    calls: list[Ended] = field(default_factory=list)
    streams: dict[str, list[int]] = field(default_factory=dict)  #: numbers of answers, in the order of their coming
    refused: list[str] = field(default_factory=list)


@dataclass
class Callers:
    """Ask the front ends of a fleet. `pauses` tells for how long a process stood still since a time."""

    loop: VirtualLoop
    fleet: Fleet
    rng: random.Random
    record: Record
    pauses: Callable[[FrontProcess, float], float] = lambda front, since: 0.0
    number: int = 0

    def next_number(self) -> int:
        """Return a number that no other question has."""
        self.number += 1
        return self.number

    def front(self) -> FrontProcess | None:
        """Return any front end that lives."""
        return self.rng.choice(self.fleet.fronts) if self.fleet.fronts else None

    async def call(
        self,
        deadline_s: float,
        client: str = "",
        size: tuple[int, int] = SIZES[0],
        front: FrontProcess | None = None,
        quality: Quality = Quality.EXACT,
    ) -> Ended | None:
        """Ask for a prediction and wait; return how it ended, None where nobody was there to ask."""
        front = front or self.front()
        if front is None:
            return None
        number, asked = self.next_number(), self.loop.time()
        previous, current = picture(number, 0, *size), picture(number, 1, *size)
        request = PredictRequest(
            str(number), previous, current, Options(quality=quality), deadline=asked + deadline_s, client=client
        )
        outcome, why, is_right = "ok", "", True
        try:
            result = await front.ask(front.engine.predict(request))
            is_right = bool((result.steps[0].frame.pixels == answer_of(previous, current).pixels).all())
        except ServiceError as error:
            outcome, why = error.code, f"{error.reason or ''} {error.message}"
        except ConnectionResetError:
            outcome = "connection lost"
        now = self.loop.time()
        ended = Ended(str(number), asked, asked + deadline_s, now, outcome, is_right, self.pauses(front, asked), why)
        self.record.calls.append(ended)
        return ended

    async def submit(self, items: int, client: str = "", size: tuple[int, int] = SIZES[0]) -> str:
        """Submit a job until it is accepted; return its id, "" if it never was."""
        number = self.next_number()
        job = job_id(client, str(number))
        frames = tuple(picture(number, k, *size) for k in range(items + 1))
        new = NewJob(job, client, frames, Options(), f"print of {number}")
        start, reason = self.loop.time(), ""
        while self.loop.time() < start + SUBMIT_S:
            front, sent = self.front(), self.loop.time()
            if front is not None:
                try:
                    await front.ask(front.engine.jobs.submit(new))
                    self.record.accepted[job] = Accepted(number, items, sent, self.loop.time())
                    self.record.owners[job] = client
                    return job
                except (ServiceError, ConnectionResetError) as error:
                    reason = repr(error)
            await asyncio.sleep(0.05 + 0.3 * self.rng.random())
        self.record.refused.append(f"job {number} was never accepted: {reason}")
        return ""

    async def withdraw(self, job: str) -> None:
        """Cancel a job, if a front end is there to hear it."""
        front = self.front()
        if job and front is not None:
            before = self.record.accepted[job]
            self.record.accepted[job] = Accepted(before.number, before.items, before.sent, before.at, withdrawn=True)
            with contextlib.suppress(ServiceError, ConnectionResetError):
                await front.ask(front.engine.jobs.cancel(job, self.record.owners[job]))

    async def right_results(self, job: str) -> bool | None:
        """Tell whether all results of a job are right; None where they cannot be read."""
        promise = self.record.accepted[job]
        for item in range(promise.items):
            front = self.front()
            if front is None:
                return None
            try:
                result = await front.ask(front.engine.jobs.result(job, self.record.owners[job], item))
            except NotFound:
                return False
            except (ServiceError, ConnectionResetError):
                return None
            height, width = result.steps[0].frame.height, result.steps[0].frame.width
            pair = [picture(promise.number, k, height, width) for k in (item, item + 1)]
            if not (result.steps[0].frame.pixels == answer_of(*pair).pixels).all():
                return False
        return True

    async def stream(self, frames: int, pace_s: float, name: str) -> None:
        """Send frames at a pace, and note the numbers of their answers as they are handed over."""
        front = self.front()
        if front is None:
            return
        session: Session[None] = Session(StreamConfig(window=3, policy=DropPolicy.ALL, scene_cuts=False))
        numbers = self.record.streams.setdefault(name, [])
        running: dict[asyncio.Task[None], None] = {}

        async def predict(work: PendingPrediction) -> None:
            deadline = self.loop.time() + 2.0
            request = PredictRequest(name, work.previous, work.current, deadline=deadline, client=name)
            outcome: Done[None] | Failed = Done(None)
            try:
                await front.ask(front.engine.predict(request))
            except ServiceError as error:
                outcome = Failed(error)
            except ConnectionResetError:
                outcome = Failed(Unavailable("connection lost"))
            session.finish(work.tag.sequence, outcome)
            pump()

        def pump() -> None:
            while (answer := session.ready()) is not None:
                session.sent()
                numbers.append(answer.tag.sequence)
            for work in session.take():
                running[asyncio.ensure_future(predict(work))] = None

        first = self.next_number()
        for index in range(frames):
            while not session.accepting:
                await asyncio.sleep(pace_s)
            session.push(picture(first, index, *SIZES[0]))
            pump()
            await asyncio.sleep(pace_s)
        while not session.idle:
            await asyncio.wait([task for task in running if not task.done()], return_when=asyncio.FIRST_COMPLETED)
