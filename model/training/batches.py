"""The batch of a step: real triples cut from decoded clips, and synthetic ones, made on the device.

A pure function of (plan, data, step, rank): stopping and resuming needs no sampler state, and no worker order
can change it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from model.training import synthetic, teacher
from model.training.augment import augment
from model.training.decode import Clip
from model.training.plan import Phase
from model.training.synthetic import Motion, Triple

#: Pixels of a texture's side relative to the crop: layers move and turn without running out of it.
TEXTURE_SIDE = 256
#: Grey levels of change per frame from which on a clip counts fully.
LIVELY = 4.0


class Batch(NamedTuple):
    """What one optimizer step sees; the first `synthetic` samples are synthetic."""

    previous: Tensor  #: Bx3xSxS in 0..1
    current: Tensor  #: Bx3xSxS
    target: Tensor  #: Bx3xSxS
    flow: Tensor  #: Bx4xSxS pixels, from the target to the previous and the current frame
    known: Tensor  #: Bx2xSxS in 0..1: where that flow counts
    synthetic: int


@dataclass(frozen=True, slots=True)
class Footage:
    """A clip ready to be drawn from."""

    name: str
    frames: Tensor  #: NxHxWx3 uint8, on the device or mapped from a file
    starts: tuple[tuple[int, ...], ...]  #: per stride (1, 2, ...): first frames of usable triples
    weight: float


def footage(
    clips: list[Clip], device: torch.device, strides: int, resident: bool, weight: float = 1.0
) -> list[Footage]:
    """Prepare the clips with at least one usable triple; `resident` copies every frame to the device once."""
    ready = []
    for clip in clips:
        starts = tuple(clip.verdict.starts(len(clip.frames), stride) for stride in range(1, strides + 1))
        if starts[0]:
            frames = torch.from_numpy(clip.frames)
            # By the root of its length, and by how much happens in it up to LIVELY: a long quiet shot must not
            # crowd out the short lively ones.
            share = weight * math.sqrt(len(starts[0])) * max(0.1, min(1.0, clip.verdict.typical / LIVELY))
            ready.append(Footage(clip.name, frames.to(device) if resident else frames, starts, share))
    return ready


class Batches:
    """Makes the batch of any step."""

    def __init__(self, clips: list[Footage], device: torch.device, seed: int, rank: int = 0) -> None:
        self._clips, self._device, self._seed, self._rank = clips, device, seed, rank
        self._weights = torch.tensor([clip.weight for clip in clips], dtype=torch.float64)

    def generator(self, step: int, device: torch.device | str = "cpu", stream: int = 0) -> Generator:
        """Return the random numbers of one step; `stream` separates the batch from the routes drawn for it."""
        # Large odd factors keep neighbouring steps, ranks and streams apart; the generator mixes the rest.
        seed = self._seed * 0x9E3779B1 + step * 0x85EBCA77 + self._rank * 0xC2B2AE3D + stream * 0x27D4EB2F
        return Generator(device).manual_seed(seed % 2**63)

    @torch.no_grad()
    def make(self, step: int, phase: Phase) -> Batch:
        """Make the batch of `step`, counted from the start of the run, under the settings of its phase."""
        rng = self.generator(step)
        count = round(phase.batch * phase.synthetic) if self._clips else phase.batch
        parts = []
        if count:
            parts.append(self._synthetic(count, phase, step, rng))
        if count < phase.batch:
            parts.append(self._real(phase.batch - count, phase, rng))
        previous, current, target, flow, weight = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return Batch(previous, current, target, flow, weight, count)

    def _synthetic(self, count: int, phase: Phase, step: int, rng: Generator) -> Triple:
        layers = 1 + _integer(3, rng)
        if self._clips:
            textures = torch.stack([self._texture(rng) for _ in range(count * layers)])
        else:
            textures = synthetic.noise(count * layers, TEXTURE_SIDE, self.generator(step, self._device, 1))
        textures = textures.view(count, layers, *textures.shape[1:])
        motion = Motion(shift=(0.2, phase.shift), relative=(0.3, phase.shift / 2))
        return synthetic.render(textures, phase.size, motion, self.generator(step, self._device, 2))

    def _real(self, count: int, phase: Phase, rng: Generator) -> Triple:
        clips = augment(torch.stack([self._triple(phase, rng) for _ in range(count)]), rng)
        previous, current, target = clips.unbind(1)
        if phase.teacher and max(phase.flow) > 0:
            flow, weight = teacher.flow(previous, current, target, phase.teacher_preset)
        else:
            flow, weight = torch.zeros_like(clips[:, 0, :1]).repeat(1, 4, 1, 1), torch.zeros_like(clips[:, 0, :2])
        return Triple(previous, current, target, flow, weight)

    def _triple(self, phase: Phase, rng: Generator) -> Tensor:
        """Draw one crop of three frames, the livelier of two places, enlarged to the phase's size: 3x3xSxS."""
        clip = self._clip(rng)
        usable = [starts for starts in clip.starts[: phase.stride] if starts]
        stride = _integer(len(usable), rng)
        start = usable[stride][_integer(len(usable[stride]), rng)]
        stride += 1
        frames = clip.frames[start : start + 2 * stride + 1 : stride]
        zoom = math.exp(math.log(phase.zoom) * _fraction(rng))
        side = min(round(phase.size / zoom), *frames.shape[1:3])
        crops = [_crop(frames, side, rng) for _ in range(2)]
        # Most of most frames stands still and teaches nothing new; half of the draws keep the natural mix.
        natural = _fraction(rng) < 0.5
        lively = [(crop[2, ::4, ::4].float() - crop[1, ::4, ::4].float()).abs().mean() for crop in crops]
        # Chosen on the device: asking it for a number here would make it wait for the step that is running.
        pick = crops[0] if natural else torch.where(lively[0] >= lively[1], crops[0], crops[1])
        return _floats(pick, phase.size, self._device)

    def _texture(self, rng: Generator) -> Tensor:
        clip = self._clip(rng)
        index = _integer(len(clip.frames), rng)
        side = min(TEXTURE_SIDE, *clip.frames.shape[1:3])
        return _floats(_crop(clip.frames[index : index + 1], side, rng), TEXTURE_SIDE, self._device)[0]

    def _clip(self, rng: Generator) -> Footage:
        return self._clips[int(torch.multinomial(self._weights, 1, generator=rng))]


def _crop(frames: Tensor, side: int, rng: Generator) -> Tensor:
    top = _integer(frames.shape[1] - side + 1, rng)
    left = _integer(frames.shape[2] - side + 1, rng)
    return frames[:, top : top + side, left : left + side]


def _floats(crop: Tensor, size: int, device: torch.device) -> Tensor:
    frames = crop.to(device).permute(0, 3, 1, 2).float() / 255
    if frames.shape[-1] == size:
        return frames
    return F.interpolate(frames, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def _integer(below: int, rng: Generator) -> int:
    return int(torch.randint(below, (1,), generator=rng))


def _fraction(rng: Generator) -> float:
    return float(torch.rand(1, generator=rng))
