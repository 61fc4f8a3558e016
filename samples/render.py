"""Renders the sample frames of this folder: a scene of our own with parallax, a rolling ball and a balloon.

Usage: python samples/render.py [folder]   (needs Pillow and numpy; the same call gives the same bytes)
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HEIGHT, WIDTH = 256, 448
#: Rendered this many times larger, then reduced, so that edges are smooth and motion is not in whole pixels.
OVER = 3
FRAMES = 12


def _noise(seed: int, height: int, width: int, cell: int) -> np.ndarray:
    """Smooth texture in -1..1, periodic in x."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        size = max(2, cell >> octave)
        grid = rng.uniform(-1, 1, (height // size + 2, width // size)).astype(np.float32)
        image = Image.fromarray(np.concatenate([grid, grid[:, :2]], 1))
        wide = image.resize((width + 2 * size, height + 2 * size), Image.Resampling.BICUBIC)
        total += np.asarray(wide)[:height, :width] / 2**octave
    return np.clip(total / 1.6, -1, 1)


def _hill(seed: int, base: float, amplitude: float, colour: tuple[int, int, int], shift: float) -> Image.Image:
    """One layer of hills as RGBA, moved left by `shift` pixels; its texture moves with it."""
    height, width = HEIGHT * OVER, WIDTH * OVER
    period = 2 * width
    x = (np.arange(width) + shift * OVER) % period
    phase = 2 * math.pi * x / period
    rng = np.random.default_rng(seed)
    line = np.zeros(width)
    for k in range(1, 7):
        line += rng.uniform(-1, 1) / k * np.sin(k * 2 * phase + rng.uniform(0, 6.3))
    top = (base - amplitude * line) * height
    texture = _noise(seed + 1, height, period, 48)
    # Bilinear sampling in x keeps the texture moving in fractions of a pixel.
    low = np.floor(x).astype(int) % period
    part = (x - np.floor(x)).astype(np.float32)
    sampled = texture[:, low] * (1 - part) + texture[:, (low + 1) % period] * part
    rgb = np.asarray(colour, np.float32) * (1 + 0.28 * sampled[..., None])
    alpha = np.clip(np.arange(height)[:, None] - top[None, :], 0, 1) * 255
    return Image.fromarray(np.concatenate([rgb.clip(0, 255), alpha[..., None]], 2).astype(np.uint8), "RGBA")


def _balloon(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    stripes = ["#d1495b", "#edae49", "#d1495b", "#edae49", "#d1495b"]
    for i, colour in enumerate(stripes):
        half = radius * (1 - 0.23 * i)
        draw.ellipse((x - half, y - radius, x + half, y + radius), fill=colour)
    draw.line((x - radius * 0.4, y + radius * 0.9, x - 9, y + radius * 1.55), fill="#4a3526", width=4)
    draw.line((x + radius * 0.4, y + radius * 0.9, x + 9, y + radius * 1.55), fill="#4a3526", width=4)
    draw.rectangle((x - 15, y + radius * 1.55, x + 15, y + radius * 1.55 + 24), fill="#7a5230")


def _ball(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, angle: float) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, fill="#f7f3e9")
    for k in range(3):
        start = math.degrees(angle) + 120 * k
        draw.pieslice(box, start, start + 60, fill="#2b4c7e")
    draw.ellipse((x - radius / 4, y - radius / 4, x + radius / 4, y + radius / 4), fill="#edae49")


def frame(time: int) -> Image.Image:
    """The scene at frame `time`, HEIGHT x WIDTH, RGB."""
    height, width = HEIGHT * OVER, WIDTH * OVER
    ramp = np.linspace(0, 1, height)[:, None, None]
    sky = np.array([96, 156, 214]) * (1 - ramp) + np.array([245, 226, 196]) * ramp
    sky = np.broadcast_to(sky, (height, width, 3)) + 6 * _noise(5, height, width, 96)[..., None]
    image = Image.fromarray(sky.clip(0, 255).astype(np.uint8)).convert("RGBA")
    image.alpha_composite(_hill(11, 0.55, 0.06, (124, 150, 168), 1.0 * time))
    _balloon(ImageDraw.Draw(image), (300 - 1.6 * time) * OVER, (62 + 0.9 * time) * OVER, 27 * OVER)
    image.alpha_composite(_hill(23, 0.68, 0.05, (88, 132, 96), 2.6 * time))
    image.alpha_composite(_hill(37, 0.84, 0.03, (92, 112, 52), 4.8 * time))
    travelled = 3.4 * time
    _ball(ImageDraw.Draw(image), (70 + travelled) * OVER, 208 * OVER, 24 * OVER, travelled / 24)
    return image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    """Write FRAMES numbered PNG files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for time in range(FRAMES):
        frame(time).save(folder / f"frame{time:02}.png", optimize=True)


if __name__ == "__main__":
    main()
