"""A sheet of sample predictions to look at: a row a sample, from the two inputs to the error and the flow."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from model.inference import pixels

#: Errors are shown this many times stronger.
ERROR_GAIN = 4.0


def sheet(
    previous: Tensor, current: Tensor, target: Tensor, prediction: Tensor, flow: Tensor, rows: int = 8
) -> Image.Image:
    """Draw the columns previous, current, target, prediction, |error| x 4, flow to the current frame as colour."""
    columns = [
        previous,
        current,
        target,
        prediction,
        (prediction - target).abs() * ERROR_GAIN,
        flow_colours(flow[:, 2:4]),
    ]
    picture = torch.cat([column[:rows].detach().float().clamp(0, 1).cpu() for column in columns], 3)
    grid = torch.cat(list(picture), 1)
    return Image.fromarray(pixels.to_pictures(grid).numpy())


def flow_colours(flow: Tensor, limit: float | None = None) -> Tensor:
    """Turn flow Bx2xHxW in pixels into colours Bx3xHxW in 0..1: hue is the direction, strength the length.

    `limit` pixels are full colour; by default the longest vector of each sample.
    """
    x, y = flow[:, 0], flow[:, 1]
    length = (x * x + y * y).sqrt()
    longest = length.amax((1, 2), keepdim=True).clamp(min=1e-3) if limit is None else limit
    angle = torch.atan2(y, x)
    strength = (length / longest).clamp(0, 1)
    # Three cosines a third of a turn apart go round the hues without a table.
    turns = [angle + offset for offset in (0.0, 2.0943951, 4.1887902)]
    return torch.stack([1 - strength * (0.5 - 0.5 * torch.cos(turn)) for turn in turns], 1)
