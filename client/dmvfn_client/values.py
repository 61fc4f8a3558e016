"""Answers as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dmvfn_client.pictures import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One predicted frame. `pixels` HxWx3 uint8 RGB; `route` nine digits: which blocks ran; 2 FLOPs a multiply-add.

    Of methods flow and mix `confidence` takes the mask's place: HxW in 0..1, trust in the flow.
    """

    pixels: Pixels
    route: str
    flops: int
    flow: NDArray[np.float32] | None = None  #: HxWx4, pixels (older x, y, newer x, y), if asked for
    mask: NDArray[np.float32] | None = None  #: HxW, weight of the older frame in 0..1, if asked for
    time_us: int | None = None  #: in a stream: when it would be shown, on the sender's clock
    confidence: NDArray[np.float32] | None = None
    t: float | None = None  #: its moment, where `t` was asked for; such frames share one prediction's route and FLOPs

    @property
    def image(self) -> Image.Image:
        """As a Pillow image."""
        return Image.fromarray(self.pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What follows a pair of frames, nearest first."""

    frames: tuple[Frame, ...]
    model: str
    request_id: str = ""
    seed: int | None = None  #: where the route was drawn
    shortened: bool = False  #: an adaptive request got less than it asked for, to meet the deadline
    batch_size: int = 1
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    method: str = "dmvfn"  #: what predicted: dmvfn, flow or mix
    shares: Mapping[str, float] = field(default_factory=dict)  #: of a mixture: each candidate's, on average; 1 in all
    cut: bool = False  #: asked for `t`, but the pair shows two scenes: the newer frame is repeated

    @property
    def pixels(self) -> Pixels:
        """The next frame's."""
        return self.frames[0].pixels

    @property
    def image(self) -> Image.Image:
        """The next frame as a Pillow image."""
        return self.frames[0].image

    @property
    def route(self) -> str:
        """Of the next frame."""
        return self.frames[0].route

    @property
    def flops(self) -> int:
        """Of all frames."""
        return sum(frame.flops for frame in self.frames)


@dataclass(frozen=True, slots=True)
class Job:
    """How a job stands. `state`: queued, running, done, failed or cancelled; `progress` in 0..1."""

    id: str
    state: str
    items: int
    done: int
    progress: float
    error: Mapping[str, object] | None = None

    @property
    def final(self) -> bool:
        """Whether nothing moves it any more."""
        return self.state in ("done", "failed", "cancelled")
