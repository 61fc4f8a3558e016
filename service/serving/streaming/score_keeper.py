"""Scores one stream's predictions beside it: in a thread, in order, and never in an answer's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from service.core.types import Frame, PredictResult
from service.serving.streaming.online_score import MomentScore, OnlineScore, ScoreReport
from service.serving.streaming.session import Tag
from service.telemetry.stream_quality import StreamQuality

log = logging.getLogger("service.stream")

#: Comparisons that wait for their thread at most; what comes beyond is not scored.
MOST_WAITING = 32


class ScoreKeeper:
    """The score of one stream; its metrics grow with every comparison."""

    def __init__(self, metrics: StreamQuality) -> None:
        self._metrics = metrics
        self._score = OnlineScore()
        self._waiting: asyncio.Queue[Callable[[], Sequence[MomentScore]]] = asyncio.Queue(MOST_WAITING)
        self._worker: asyncio.Task[None] | None = None

    def arrived(self, tag: Tag, frame: Frame, *, begins_pair: bool) -> None:
        """Take a frame as the truth of what was predicted for its time."""

        def compare() -> Sequence[MomentScore]:
            score = self._score.arrived(tag.sequence, tag.time_us, frame, begins_pair=begins_pair)
            return () if score is None else (score,)

        self._later(compare)

    def predicted(self, tag: Tag, pace_us: int | None, current: Frame, result: PredictResult) -> None:
        """Take what was predicted from the frame of `tag`."""
        self._later(lambda: self._score.predicted(tag.sequence, tag.time_us, pace_us, current, result))

    def report(self) -> ScoreReport | None:
        """Return what is known now; None before the first comparison."""
        return self._score.report()

    async def final(self) -> ScoreReport | None:
        """Return what is known when all that waits has been compared."""
        await self._waiting.join()
        return self._score.report()

    async def close(self) -> None:
        """Compare no more."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    def _later(self, compare: Callable[[], Sequence[MomentScore]]) -> None:
        if self._waiting.full():
            return
        self._waiting.put_nowait(compare)
        if self._worker is None:
            # owned: by the stream, which closes this; its errors are logged one by one
            self._worker = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            compare = await self._waiting.get()
            try:
                for score in await asyncio.to_thread(compare):
                    self._metrics.scored(
                        score.method,
                        score.version,
                        is_next=score.is_next,
                        psnr_db=score.psnr_db,
                        repeated_db=score.repeated_db,
                    )
            except Exception:
                log.exception("a prediction could not be scored")
            finally:
                self._waiting.task_done()
