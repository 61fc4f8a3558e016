"""Motion by the DMVFN network, along any route, at full or reduced size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model import checkpoint
from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.inference import pixels
from model.inference.predict import FramePairs
from model.motion.field import Floats, MotionField, Pixels, agreement, check, sample


@dataclass(frozen=True, slots=True, eq=False)
class NetworkMotion:
    """The network's own two flows, which need not be steady: it was trained for the next frame's grid."""

    network: DMVFN
    #: One bit a block; None lets the network's router choose.
    route: tuple[bool, ...] | None = None
    #: 1, 1/2 or 1/4: the flow is found on frames reduced by it.
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Return e.g. "network at 1/2"."""
        return "network" + (f" at 1/{round(1 / self.scale)}" if self.scale < 1 else "")

    def __call__(self, previous: Pixels, current: Pixels) -> MotionField:
        """Estimate as `MotionEstimator` says; ValueError for a route of the wrong length, too."""
        check(previous, current)
        bgr = checkpoint.metadata(self.network).colour_order == "BGR"
        first, second = (pixels.to_frames([frame], torch.device("cpu"), bgr=bgr) for frame in (previous, current))
        pairs = FramePairs(self.network, first, second, self.scale)
        routes = routing.auto(pairs.probabilities()) if self.route is None else torch.tensor([self.route])
        flow = pairs.predict(routes).flow[0]
        to_previous, to_current = _field(flow[:2]), _field(flow[2:])
        return MotionField(
            to_current, to_previous, agreement(sample(previous, to_previous), sample(current, to_current))
        )


def _field(flow: Tensor) -> Floats:
    return np.asarray(flow.permute(1, 2, 0).contiguous().numpy(), np.float32)
