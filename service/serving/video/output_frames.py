"""Lists the frames that a clip comes out with: rendered as its plan says, and compared if asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from service.core.types import Frame
from service.serving.video import compare
from service.serving.video.clip import ClipSource, Item, Passed, Timed
from service.serving.video.compare import FrameScore
from service.serving.video.frame_prediction import PredictSteps
from service.serving.video.plan import FramePlan
from service.serving.video.render import UNDER_WAY, ShownFrame, frames_held, render


@dataclass(frozen=True, slots=True)
class VideoParams:
    """What is made of a clip."""

    plan: FramePlan
    compare: bool = False
    scene_cuts: bool = True
    under_way: int = UNDER_WAY  #: predictions begun and not yet shown, at most

    def size(self, source: ClipSource) -> tuple[int, int]:
        """Return width and height of what is written."""
        width, height = source.info.width, source.info.height
        return compare.size(width, height) if self.compare else (width, height)

    def shown(self, source: ClipSource) -> ClipSource:
        """Return what a sink sees of the clip: itself."""
        return source

    def frames_held(self, steps: int) -> int:
        """Return the most frames that are held at once; `steps`: frames of one prediction."""
        return frames_held(self.plan, steps, self.under_way)


async def output_frames(
    source: ClipSource, params: VideoParams, predict: PredictSteps, score: FrameScore
) -> AsyncGenerator[tuple[Item, bool], None]:
    """Yield what to write, in order, and whether it was predicted. `score` grows with every comparison."""
    outputs = render(source, params.plan, predict, under_way=params.under_way, scene_cuts=params.scene_cuts)
    try:
        async for item in outputs:
            if isinstance(item, Passed):
                yield item, False
                continue
            frame = item.frame
            if params.compare:
                frame = await asyncio.to_thread(_compared, item, score)
            yield Timed(frame, item.original.pts, item.original.duration), item.result is not None
    finally:
        await outputs.aclose()


def _compared(item: ShownFrame, score: FrameScore) -> Frame:
    truth = item.original.frame
    if item.result is None or item.last is None:
        return compare.side_by_side(truth, item.frame, None, None)
    numbers = (compare.psnr(truth, item.frame), compare.psnr(truth, item.last))
    score.add(*numbers)
    return compare.side_by_side(truth, item.frame, item.result.steps[-1].route, numbers)
