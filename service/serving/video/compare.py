"""True, predicted and error side by side, and how good the predictions were against repeating the last frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.core.types import Frame, Route, route_text

#: Height of the line of text under the pictures, and the gap between them, pixels.
LINE, GAP = 24, 4
#: The error map shows differences this many times larger, or most of it would look black.
ERROR_GAIN = 4


def psnr(a: Frame, b: Frame) -> float:
    """Measure PSNR in dB; infinite for equal frames."""
    difference = a.pixels.astype(np.int16) - b.pixels
    error = float(np.mean(np.square(difference, dtype=np.float64)))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@dataclass(slots=True)
class FrameScore:
    """Running means over predicted frames whose true frame is known. Equal frames count as 100 dB."""

    frames: int = 0
    predicted: float = 0.0
    repeated: float = 0.0
    better: int = 0
    _cap: float = field(default=100.0, repr=False)

    def add(self, psnr_output: float, psnr_repeat: float) -> None:
        """Add the PSNR of one prediction, and of the last frame it was made from, against the true frame."""
        self.frames += 1
        self.predicted += min(psnr_output, self._cap)
        self.repeated += min(psnr_repeat, self._cap)
        self.better += psnr_output > psnr_repeat

    def text(self) -> str:
        """Write one line for people."""
        if not self.frames:
            return "nothing was predicted, so there is nothing to compare"
        return (
            f"PSNR over {self.frames} predicted frames: {self.predicted / self.frames:.2f} dB; "
            f"repeating the last frame: {self.repeated / self.frames:.2f} dB; "
            f"better than repeating on {self.better} of {self.frames}"
        )


def size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of a comparison, both even: encoders want that."""
    whole = 3 * width + 2 * GAP
    return whole + whole % 2, height + LINE + (height + LINE) % 2


def side_by_side(truth: Frame, output: Frame, route: Route | None, numbers: tuple[float, float] | None) -> Frame:
    """Show true | shown | their difference, and a line that names them. `numbers`: PSNR predicted, and repeated."""
    width, height = size(truth.width, truth.height)
    canvas = np.full((height, width, 3), 24, np.uint8)
    error = _error(truth, output)
    for k, picture in enumerate((truth.pixels, output.pixels, error)):
        x = k * (truth.width + GAP)
        canvas[: truth.height, x : x + truth.width] = picture
    labels = ["true", "kept", ""]
    if route is not None:
        psnr_output, psnr_repeat = numbers or (math.nan, math.nan)
        labels[1:] = [
            f"predicted {psnr_output:.1f} dB, blocks {route_text(route)}",
            f"error x{ERROR_GAIN} (repeat {psnr_repeat:.1f} dB)",
        ]
    return Frame(_label(canvas, labels, truth.width, truth.height))


def _error(truth: Frame, output: Frame) -> NDArray[np.uint8]:
    difference = np.abs(truth.pixels.astype(np.int16) - output.pixels).max(axis=2) * ERROR_GAIN
    return np.repeat(difference.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _label(canvas: NDArray[np.uint8], labels: list[str], width: int, height: int) -> NDArray[np.uint8]:
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    for k, text in enumerate(labels):
        while text and draw.textlength(text, font=font) > width - 8:
            text = text[:-1]
        draw.text((k * (width + GAP) + 4, height + 4), text, fill=(235, 235, 235), font=font)
    return np.array(image)
