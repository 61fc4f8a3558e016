"""Scores one stream's predictions beside it: in a thread, in order, and never in an answer's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from service.core.interfaces import VersionScores
from service.core.types import Frame, Method, PredictResult
from service.serving.streaming import score_sampling
from service.serving.streaming.online_score import MomentScore, OnlineScore, ScoreReport
from service.serving.streaming.session import Tag
from service.telemetry.stream_quality import StreamQuality

log = logging.getLogger("service.stream")

#: Comparisons that wait for their thread at most; what comes beyond is not scored.
MOST_WAITING = 32
#: Seconds by which comparisons may wait where nobody is told of them: a frame at a camera's pace is answered by then,
#: and its way is not shared with a thread that needs the interpreter.
UNHURRIED_S = 0.02


class ScoreKeeper:
    """The score of one stream; its metrics grow with every comparison, and `versions` is told of each.

    `is_told`: whether someone is told of the stream's score. Else some frames stand for all (`score_sampling`), unless
    `versions` wants every score, and comparisons are gathered for `delay_s` seconds before a thread makes them.
    """

    def __init__(
        self,
        metrics: StreamQuality,
        versions: VersionScores | None = None,
        *,
        is_told: bool = True,
        delay_s: float = UNHURRIED_S,
    ) -> None:
        self._metrics, self._versions, self._is_told = metrics, versions, is_told
        self._delay_s = 0.0 if is_told else delay_s
        self._score = OnlineScore()
        self._waiting: asyncio.Queue[Callable[[], Sequence[MomentScore]]] = asyncio.Queue(MOST_WAITING)
        self._has_work = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def arrived(self, tag: Tag, frame: Frame, *, begins_pair: bool) -> None:
        """Take a frame as the truth of what was predicted for its time."""
        if not self._scores_all():
            if not score_sampling.is_truth(tag.sequence):
                return
            begins_pair = begins_pair or score_sampling.begins_run(tag.sequence)

        def compare() -> Sequence[MomentScore]:
            score = self._score.arrived(tag.sequence, tag.time_us, frame, begins_pair=begins_pair)
            return () if score is None else (score,)

        self._later(compare)

    def predicted(self, tag: Tag, pace_us: int | None, current: Frame, result: PredictResult) -> None:
        """Take what was predicted from the frame of `tag`."""
        if not self._scores_all() and not score_sampling.has_truth(tag.sequence):
            return
        self._later(lambda: self._score.predicted(tag.sequence, tag.time_us, pace_us, current, result))

    def report(self) -> ScoreReport | None:
        """Return what is known now; None before the first comparison."""
        return self._score.report()

    async def final(self) -> ScoreReport | None:
        """Return what is known when all that waits has been compared."""
        await self._waiting.join()
        return self._score.report()

    async def close(self) -> None:
        """Compare no more; what was only gathered is compared at once."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
            if self._delay_s:
                self._record(_compared(self._gathered()))

    def _scores_all(self) -> bool:
        return self._is_told or (self._versions is not None and self._versions.wants_scores)

    def _later(self, compare: Callable[[], Sequence[MomentScore]]) -> None:
        if self._waiting.full():
            return
        self._waiting.put_nowait(compare)
        self._has_work.set()
        if self._worker is None:
            # owned: by the stream, which closes this; its errors are logged one by one
            self._worker = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._has_work.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            self._has_work.clear()
            compares = self._gathered()
            self._record(await asyncio.to_thread(_compared, compares))
            for _ in compares:
                self._waiting.task_done()

    def _gathered(self) -> list[Callable[[], Sequence[MomentScore]]]:
        return [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]

    def _record(self, scores: Sequence[MomentScore]) -> None:
        try:
            for score in scores:
                self._metrics.scored(
                    score.method,
                    score.version,
                    is_next=score.is_next,
                    psnr_db=score.psnr_db,
                    repeated_db=score.repeated_db,
                )
                # Method flow is the same whatever the weights.
                if self._versions is not None and score.is_next and score.method is not Method.FLOW:
                    self._versions.record_score(score.version, score.gain_db)
        except Exception:
            log.exception("a score could not be counted")


def _compared(compares: Sequence[Callable[[], Sequence[MomentScore]]]) -> list[MomentScore]:
    """Make comparisons one after the other; one that fails is logged, and costs no other."""
    scores: list[MomentScore] = []
    for compare in compares:
        try:
            scores += compare()
        except Exception:
            log.exception("a prediction could not be scored")
    return scores
