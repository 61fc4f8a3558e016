"""Makes frame triples with exactly known motion: textured layers moving over each other, rendered in batches.

Knows tensors only: textures come from the caller, everything is drawn on their device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Motion:
    """How fast synthetic layers move, per step between two frames."""

    #: Shift of the scene in pixels: log-uniform between these.
    shift: tuple[float, float] = (0.2, 24.0)
    #: Shift of a foreground layer relative to the scene, in pixels: log-uniform between these.
    relative: tuple[float, float] = (0.3, 12.0)
    #: Largest rotation in degrees, and largest zoom and shear as fractions.
    rotation: float = 3.0
    zoom: float = 0.08
    shear: float = 0.02


class Triple(NamedTuple):
    """Three consecutive frames and the flow the network should find."""

    previous: Tensor  #: Bx3xHxW in 0..1
    current: Tensor  #: Bx3xHxW in 0..1
    target: Tensor  #: Bx3xHxW in 0..1
    flow: Tensor  #: Bx4xHxW pixels: from the target to the previous frame, then to the current (x, y each)
    #: Bx2xHxW in 0..1: where the target's surface is visible in the previous frame, and in the current.
    visible: Tensor


def render(textures: Tensor, size: int, motion: Motion, rng: Generator) -> Triple:
    """Render triples of size x size pixels from textures BxLx3xThxTw in 0..1: layer 0 is the scene, others lie over it.

    Motion is constant over the three frames (affine per layer), so that the next frame can be known from two.
    `rng` must live on the textures' device.
    """
    batch, layers, _, _, _ = textures.shape
    device = textures.device
    scene = _affine(batch, motion, motion.shift, rng, device)
    grid = _pixels(size, device)
    colour: list[Tensor | None] = [None, None, None]
    flow = torch.zeros(batch, 4, size, size, device=device)
    owner = torch.zeros(batch, 1, size, size, device=device)
    owners: list[Tensor] = [owner, owner, owner]
    steps: list[tuple[Tensor, Tensor]] = []
    for layer in range(layers):
        step = scene
        if layer:
            step = scene @ _affine(batch, motion, motion.relative, rng, device)
        back = (step @ step, step)  # target pixel -> previous pixel, current pixel
        steps.append(back)
        texture = textures[:, layer]
        place = _placement(batch, size, texture.shape[-2:], rng, device)
        alpha_map = _shapes(batch, rng, device) if layer else None
        onward = torch.linalg.inv(step)
        towards = (onward @ onward, onward, torch.eye(3, device=device).expand(batch, 3, 3))
        for k, matrix in enumerate(towards):
            points = _apply(matrix, grid)  # where the surface seen at a pixel of frame k lies in the target
            surface = _sample(texture, _apply(place, points), "reflection")
            if alpha_map is None:
                colour[k] = surface
                continue
            alpha = _sample(alpha_map, points / (size / 2.0), "zeros")
            below = colour[k]
            assert below is not None
            colour[k] = below + (surface - below) * alpha
            owners[k] = torch.where(alpha > 0.5, float(layer), owners[k])
    owner = owners[2]
    visible = []
    for which in range(2):
        points = torch.stack([_apply(back[which], grid) for back in steps], 1)  # BxLxHxWx2
        index = owner.long()[:, :, :, :, None].expand(-1, -1, -1, -1, 2)
        sources = points.gather(1, index)[:, 0]
        flow[:, 2 * which : 2 * which + 2] = (sources - grid).permute(0, 3, 1, 2)
        there = F.grid_sample(
            owners[which], (sources * 2.0 / (size - 1.0)), mode="nearest", padding_mode="border", align_corners=True
        )
        inside = (sources.abs() <= (size - 1.0) / 2.0).all(-1)[:, None]
        visible.append((there == owner) & inside)
    previous, current, target = (frame.clamp(0, 1) for frame in colour if frame is not None)
    return Triple(previous, current, target, flow, torch.cat(visible, 1).float())


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=rng, device=device) * (high - low) + low


def _pixels(size: int, device: torch.device) -> Tensor:
    """Return pixel coordinates (x, y) 1xHxWx2 with the origin at the centre of the frame."""
    line = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2.0
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y), -1)[None]


def _apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply affine Bx3x3 to points BxHxWx2."""
    linear, shift = matrix[:, None, :2, :2], matrix[:, None, None, :2, 2]
    offsets = points.expand(matrix.shape[0], -1, -1, -1) @ linear.transpose(-1, -2)
    return offsets + shift


def _sample(image: Tensor, points: Tensor, padding: str) -> Tensor:
    return F.grid_sample(image, points, mode="bilinear", padding_mode=padding, align_corners=False)


def _affine(batch: int, motion: Motion, shift: tuple[float, float], rng: Generator, device: torch.device) -> Tensor:
    """Draw a small random affine motion about the centre of the frame: Bx3x3."""
    length = torch.exp(_uniform((batch,), math.log(shift[0]), math.log(shift[1]), rng, device))
    direction = _uniform((batch,), 0, 2 * math.pi, rng, device)
    # Cubed, so that most scenes hardly turn or zoom and a few do strongly.
    angle = _uniform((batch,), -1, 1, rng, device) ** 3 * math.radians(motion.rotation)
    zoom = 1 + _uniform((batch,), -1, 1, rng, device) ** 3 * motion.zoom
    shear = _uniform((batch,), -1, 1, rng, device) ** 3 * motion.shear
    matrix = torch.zeros(batch, 3, 3, device=device)
    matrix[:, 0, 0], matrix[:, 0, 1] = zoom * angle.cos(), -zoom * angle.sin() + shear
    matrix[:, 1, 0], matrix[:, 1, 1] = zoom * angle.sin() + shear, zoom * angle.cos()
    matrix[:, 0, 2], matrix[:, 1, 2] = length * direction.cos(), length * direction.sin()
    matrix[:, 2, 2] = 1
    return matrix


def _placement(batch: int, size: int, texture: torch.Size, rng: Generator, device: torch.device) -> Tensor:
    """Draw a random zoom, turn and place: Bx3x3, target pixels -> normalised texture coordinates."""
    height, width = texture
    zoom = torch.exp(_uniform((batch,), math.log(0.4), math.log(1.2), rng, device))
    angle = _uniform((batch,), -math.pi, math.pi, rng, device)
    matrix = torch.zeros(batch, 3, 3, device=device)
    matrix[:, 0, 0], matrix[:, 0, 1] = zoom * angle.cos() * 2 / width, -zoom * angle.sin() * 2 / width
    matrix[:, 1, 0], matrix[:, 1, 1] = zoom * angle.sin() * 2 / height, zoom * angle.cos() * 2 / height
    matrix[:, 0, 2] = _uniform((batch,), -0.5, 0.5, rng, device)
    matrix[:, 1, 2] = _uniform((batch,), -0.5, 0.5, rng, device)
    matrix[:, 2, 2] = 1
    return matrix


def _shapes(batch: int, rng: Generator, device: torch.device, size: int = 64) -> Tensor:
    """Draw masks Bx1x64x64 in 0..1: one blob each, its outline a few random waves around a circle."""
    line = torch.linspace(-1, 1, size, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    centre = _uniform((batch, 2, 1, 1), -0.8, 0.8, rng, device)
    x, y = x[None] - centre[:, 0], y[None] - centre[:, 1]
    radius, angle = (x * x + y * y).sqrt(), torch.atan2(y, x)
    outline = _uniform((batch, 1, 1), 0.15, 0.7, rng, device).expand(-1, size, size)
    for wave in range(1, 5):
        strength = _uniform((batch, 1, 1), 0, 0.35 / wave, rng, device)
        phase = _uniform((batch, 1, 1), 0, 2 * math.pi, rng, device)
        outline = outline * (1 + strength * torch.sin(wave * angle + phase))
    return ((outline - radius) * size / 2 + 0.5).clamp(0, 1)[:, None]


def noise(count: int, size: int, rng: Generator) -> Tensor:
    """Draw textures from nothing, count x3xSxS in 0..1: octaves of smooth noise in random colours."""
    device = rng.device
    picture = torch.zeros(count, 3, size, size, device=device)
    for octave in range(2, 8):
        cells = min(2**octave, size)
        grain = torch.randn(count, 3, cells, cells, generator=rng, device=device)
        picture = picture + F.interpolate(grain, size=(size, size), mode="bicubic", align_corners=False) * 0.8**octave
    return torch.sigmoid(picture * _uniform((count, 1, 1, 1), 0.8, 3.0, rng, device))
