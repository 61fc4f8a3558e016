"""Runs a plan over a clip: reads, predicts several frames at once, and shows all in order.

Memory is bounded by the frames under way, however long the clip. Knows no file format and no transport.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from service.core import scene_cut
from service.core.types import Frame, PredictResult
from service.serving.video import plan as plans
from service.serving.video.clip import Item, Passed, Timed, VideoError
from service.serving.video.frame_prediction import PredictSteps
from service.serving.video.plan import FramePlan
from service.thread_work import run_to_end

#: Predictions under way at most: enough for the engine to batch, few enough to hold in memory.
UNDER_WAY = 4
#: Frames and packets of sound behind a prediction that is not ready, at most: a clip may be nearly all sound.
WAITING = 256


def frames_held(plan: FramePlan, steps: int, under_way: int = UNDER_WAY) -> int:
    """Return the most frames that a rendering holds at once; `steps`: frames of one prediction.

    Those it may look back to and those not yet shown, as they came and as they are shown, and all steps under way.
    """
    unshown = under_way + 1
    return 2 * (plan.memory + 1 + unshown) + steps * unshown


@dataclass(frozen=True, slots=True, eq=False)
class ShownFrame:
    """One place of the clip: what came in, what is shown, and where that was predicted, from what and how.

    `result` has its last step only, which is what is shown: the others would be held as long as the place.
    """

    original: Timed
    frame: Frame
    result: PredictResult | None = None
    last: Frame | None = None  #: the newer frame it was predicted from


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    original: Frame
    shown: asyncio.Future[ShownFrame]


async def render(
    items: Iterable[Item],
    plan: FramePlan,
    predict: PredictSteps,
    *,
    under_way: int = UNDER_WAY,
    scene_cuts: bool = True,
) -> AsyncGenerator[ShownFrame | Passed, None]:
    """Yield what is shown, in order, sound in its places. The first error ends it, and all that is under way."""
    rendering = _Run(plan, predict, scene_cuts)
    waiting: deque[asyncio.Future[ShownFrame] | Passed] = deque()
    reading, count = iter(items), 0
    try:
        while (item := await run_to_end(partial(_next, reading))) is not None:
            waiting.append(rendering.begin(item) if isinstance(item, Timed) else item)
            count += isinstance(item, Timed)
            while count > under_way or len(waiting) > WAITING:
                entry = waiting.popleft()
                count -= not isinstance(entry, Passed)
                yield await _done(entry)
        while waiting:
            yield await _done(waiting.popleft())
    finally:
        await rendering.stop()


class _Run:
    """The memory of one rendering."""

    def __init__(self, plan: FramePlan, predict: PredictSteps, scene_cuts: bool) -> None:
        self._plan = plan
        self._predict = predict
        self._scene_cuts = scene_cuts
        self._places: deque[_Place] = deque(maxlen=plan.memory + 1)
        self._tasks: set[asyncio.Future[ShownFrame]] = set()
        self._index = 0
        self._scene_start = 0
        self._thumbnail: scene_cut.Thumbnail | None = None

    def begin(self, source: Timed) -> asyncio.Future[ShownFrame]:
        """Decide what is shown at this place, and start its prediction."""
        index, self._index = self._index, self._index + 1
        if self._places and source.frame.pixels.shape != self._places[-1].original.pixels.shape:
            raise VideoError(
                f"the frame size changes at frame {index}, to {source.frame.width}x{source.frame.height}; "
                "scale the clip to one size first"
            )
        if self._scene_cuts and not self._plan.lost(index):
            self._look_for_cut(index, source.frame)
        decision = self._plan.decide(index, index - self._scene_start)
        # awaited: by whoever takes the frames, in their order
        future = asyncio.ensure_future(self._show(source, decision, tuple(self._places)))
        self._tasks.add(future)
        future.add_done_callback(self._ended)
        self._places.append(_Place(source.frame, future))
        return future

    def _ended(self, future: asyncio.Future[ShownFrame]) -> None:
        self._tasks.discard(future)
        if not future.cancelled():
            # Only the first error is raised; that nobody asks for the others is no fault to report.
            future.exception()

    def _look_for_cut(self, index: int, frame: Frame) -> None:
        thumbnail = scene_cut.thumbnail(frame)
        if self._thumbnail is not None and scene_cut.is_cut(self._thumbnail, thumbnail):
            self._scene_start = index
        self._thumbnail = thumbnail

    async def _show(self, source: Timed, decision: object, places: tuple[_Place, ...]) -> ShownFrame:
        if isinstance(decision, plans.Repeat):
            return ShownFrame(source, (await asyncio.shield(places[-1].shown)).frame)
        if not isinstance(decision, plans.Predict):
            return ShownFrame(source, source.frame)
        previous_place, current_place = places[-decision.back - 1], places[-decision.back]
        if decision.repaired:
            # Shielded: this frame's end must not cancel the one it is built on.
            previous = (await asyncio.shield(previous_place.shown)).frame
            current = (await asyncio.shield(current_place.shown)).frame
        else:
            previous, current = previous_place.original, current_place.original
        result = await self._predict(previous, current, decision.steps)
        result = dataclasses.replace(result, steps=result.steps[-1:])
        return ShownFrame(source, result.steps[-1].frame, result, current)

    async def stop(self) -> None:
        """Withdraw what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _done(entry: asyncio.Future[ShownFrame] | Passed) -> ShownFrame | Passed:
    return entry if isinstance(entry, Passed) else await entry


def _next(items: Iterator[Item]) -> Item | None:
    return next(items, None)
