"""Lists what a clip comes out with, whatever is made of it: frames predicted in their places, or of another rate."""

from __future__ import annotations

from service.serving.video.clip import ClipSource
from service.serving.video.compare import FrameScore
from service.serving.video.frame_prediction import ClipPredictors
from service.serving.video.output_frames import VideoParams, output_frames
from service.serving.video.retimed_frames import Outputs, RetimingParams, retimed_frames

#: What is made of a clip.
ConversionParams = VideoParams | RetimingParams


def clip_frames(source: ClipSource, params: ConversionParams, predictors: ClipPredictors, score: FrameScore) -> Outputs:
    """Yield what to write, in order, and whether it was predicted. `score` grows with every comparison."""
    if isinstance(params, RetimingParams):
        return retimed_frames(source, params, predictors.moments)
    return output_frames(source, params, predictors.steps, score)
