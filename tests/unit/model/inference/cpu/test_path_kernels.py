"""What both paths begin with equals torch's warps, reductions and convolutions, however few rows are made at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.dmvfn import warp

pytest.importorskip("numba")

from model.inference.cpu import kernels, packing, weights
from model.inference.cpu.packing import PRECISE, SEEN
from model.inference.cpu.precision import Arithmetic
from model.inference.cpu.weights import VALUES
from model.inference.layers import LayerParameters
from tests.unit.model.inference.cpu.kinds import (
    HALVES,
    KINDS,
    convolved,
    maps_of,
    pixels_of,
    random_layer,
    rounded,
    scribbled,
)

#: Bands of rows, and rows of outputs at a time.
_ROOMS = [(1, 2), (3, 4), (4, 16)]


@dataclass
class Moving:
    """Two frames 3xhxw, a flow that leaves them here and there, a mask, and a bias for both."""

    previous: torch.Tensor
    current: torch.Tensor
    flow: torch.Tensor
    mask: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def random(cls, height: int, width: int) -> Moving:
        torch.manual_seed(height * width)
        flow, mask = 9 * torch.randn(4, height, width), torch.randn(1, height, width)
        previous, current = torch.rand(2, 3, height, width)
        return cls(previous, current, flow, mask, torch.randn(VALUES))

    def seen(self) -> torch.Tensor:
        """What a block sees, hxwx17."""
        flow, mask = self.flow + self.bias[:4, None, None], self.mask + self.bias[4]
        frames = self.previous, self.current
        warped = [warp.warp(frame[None], flow[None, 2 * i : 2 * i + 2])[0] for i, frame in enumerate(frames)]
        return torch.cat((*frames, *warped, mask, flow)).permute(1, 2, 0)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """State, bias and gather as the loops take them."""
        state = F.pad(torch.cat((self.flow, self.mask)).permute(1, 2, 0), (0, 1, 1, 2)).contiguous()
        gather = F.pad(torch.stack((self.previous, self.current)).permute(0, 2, 3, 1), (0, 1)).contiguous()
        return state.numpy(), self.bias.numpy(), gather.numpy()


def _room(bands: int, rows: int, width: int, channels: int, arithmetic: Arithmetic) -> np.ndarray:
    """Room for what is seen, full of what somebody else left there."""
    shape = bands, 2 * rows + 1, packing.bordered(1, width)[1], channels
    return packing.numbers(torch.full(shape, 77.0), arithmetic.half)


def _begin(
    moving: Moving,
    scale: int,
    arithmetic: Arithmetic,
    room: tuple[int, int] = (2, 4),
    layer: LayerParameters | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a block sees, reduced by `scale`, and its convolution to 8 channels."""
    height, width = moving.flow.shape[1:]
    channels, size, low = weights.seen(arithmetic), (height // 2, width // 2), (height // scale, width // scale)
    folded = weights.narrow(layer or random_layer(channels, 8, arithmetic.half), 2, arithmetic, channels)
    out, small = scribbled(*size, 8, False), scribbled(*low, channels, arithmetic.half)
    maps = scribbled(2, 2, 6, arithmetic.half)
    kernels.of(arithmetic).begin(
        *moving.arrays(), maps, True, _room(*room, width, channels, arithmetic),
        folded.weights, folded.activation, *size, out, scale, small,
    )  # fmt: skip
    return pixels_of(small, *low), pixels_of(out, *size)


def _begin_with(
    pixels: torch.Tensor, layer: LayerParameters, scale: int, arithmetic: Arithmetic
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of pixels hxwxC that are seen as they are: reduced by `scale`, and convolved to 8 channels."""
    height, width, channels = pixels.shape
    size, low = (height // 2, width // 2), (height // scale, width // scale)
    folded = weights.narrow(layer, 2, arithmetic, channels)
    out, small = scribbled(*size, 8, False), scribbled(*low, channels, arithmetic.half)
    kernels.of(arithmetic).begin(
        *Moving.random(2, 16).arrays(), maps_of(pixels, arithmetic.half), False,
        _room(2, 2, width, channels, arithmetic),
        folded.weights, folded.activation, *size, out, scale, small,
    )  # fmt: skip
    return pixels_of(small, *low), pixels_of(out, *size)


def _in_order(maps: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    """What is seen in the order of its channels; fails unless there are zeros between them."""
    if arithmetic is not Arithmetic.AMX:
        return maps
    others = [place for place in range(maps.shape[2]) if place not in packing.SEEN_PLACES]
    assert not maps[..., others].any()
    return maps[..., list(packing.SEEN_PLACES)]


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize("room", _ROOMS)
def test_a_block_sees_both_frames_warped(arithmetic: Arithmetic, room: tuple[int, int]) -> None:
    moving = Moving.random(16, 32)
    maps, _ = _begin(moving, 1, arithmetic, room)
    seen, expected = _in_order(maps, arithmetic), moving.seen()
    torch.testing.assert_close(seen[..., :SEEN], expected, atol=1e-5, rtol=2**-8 if arithmetic.half else 0)
    if arithmetic.half:
        both = seen[..., PRECISE:SEEN] + seen[..., SEEN:]
        torch.testing.assert_close(both, expected[..., PRECISE:], atol=1e-5, rtol=2**-16)


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize("room", _ROOMS)
def test_what_is_seen_is_convolved(arithmetic: Arithmetic, room: tuple[int, int]) -> None:
    moving, layer = Moving.random(32, 16), random_layer(weights.seen(arithmetic), 8, arithmetic.half)
    seen, answer = _begin(moving, 1, arithmetic, room, layer)
    torch.testing.assert_close(answer, convolved(layer, seen, 2), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize("room", _ROOMS)
def test_what_is_seen_is_convolved_by_two_paths_at_once(arithmetic: Arithmetic, room: tuple[int, int]) -> None:
    moving, channels = Moving.random(32, 16), weights.seen(arithmetic)
    layer, other = random_layer(channels, 22, arithmetic.half), random_layer(channels, 8, arithmetic.half)
    folded = weights.direct(layer, 2, arithmetic, channels, other)
    out, second = scribbled(16, 8, 22, arithmetic.half), scribbled(16, 8, 8, False)
    kernels.of(arithmetic).begin_beside(
        *moving.arrays(), scribbled(2, 2, 6, arithmetic.half), True, _room(*room, 16, channels, arithmetic),
        folded.weights, folded.activation, 16, 8, out, second,
    )  # fmt: skip
    seen, _ = _begin(moving, 1, arithmetic)
    torch.testing.assert_close(pixels_of(second, 16, 8), convolved(other, seen, 2), atol=1e-4, rtol=1e-5)
    expected = convolved(layer, seen, 2)
    torch.testing.assert_close(pixels_of(out, 16, 8), expected, atol=1e-4, rtol=2**-8 if arithmetic.half else 1e-5)


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize("scale", [2, 4])
def test_reducing_is_bilinear_interpolation(arithmetic: Arithmetic, scale: int) -> None:
    channels = PRECISE if arithmetic.half else SEEN
    pixels = rounded(torch.rand(16, 32, channels), arithmetic.half)
    reduced, _ = _begin_with(pixels, random_layer(channels, 8, arithmetic.half), scale, arithmetic)
    expected = F.interpolate(pixels.permute(2, 0, 1)[None], scale_factor=1 / scale, mode="bilinear")[0]
    torch.testing.assert_close(reduced, expected.permute(1, 2, 0), atol=1e-6, rtol=2**-8 if arithmetic.half else 1e-6)


@pytest.mark.parametrize("arithmetic", HALVES)
@pytest.mark.parametrize("scale", [2, 4])
def test_reducing_keeps_what_mask_and_flow_lack_in_bfloat16(arithmetic: Arithmetic, scale: int) -> None:
    moving = Moving.random(16, 32)
    maps, _ = _begin(moving, scale, arithmetic)
    reduced = _in_order(maps, arithmetic)
    both = reduced[..., PRECISE:SEEN] + reduced[..., SEEN:]
    expected = F.interpolate(moving.seen().permute(2, 0, 1)[None, PRECISE:], scale_factor=1 / scale, mode="bilinear")
    torch.testing.assert_close(both, expected[0].permute(1, 2, 0), atol=4e-3, rtol=2**-15)


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize(("inputs", "outputs"), [(17, 8), (22, 8), (6, 8), (6, 4)])
@pytest.mark.parametrize(("height", "width"), [(2, 4), (6, 12), (16, 48), (4, 30)])
def test_a_narrow_convolution_of_maps(
    arithmetic: Arithmetic, inputs: int, outputs: int, height: int, width: int
) -> None:
    layer, image = (
        random_layer(inputs, outputs, arithmetic.half),
        rounded(torch.randn(height, width, inputs), arithmetic.half),
    )
    seen, answer = _begin_with(image, layer, 1, arithmetic)
    assert torch.equal(seen, image)
    torch.testing.assert_close(answer[..., :outputs], convolved(layer, image, 2), atol=1e-5, rtol=0)
    assert not answer[..., outputs:].any()


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize(("inputs", "outputs", "others"), [(22, 22, 8), (6, 8, 4), (6, 40, 8), (6, 80, 8)])
@pytest.mark.parametrize(("height", "width"), [(2, 4), (16, 48)])
def test_two_convolutions_of_the_same_maps(
    arithmetic: Arithmetic, inputs: int, outputs: int, others: int, height: int, width: int
) -> None:
    layer, other = random_layer(inputs, outputs, arithmetic.half), random_layer(inputs, others, arithmetic.half)
    image, size = rounded(torch.randn(height, width, inputs), arithmetic.half), (height // 2, width // 2)
    out, second = scribbled(*size, outputs, arithmetic.half), scribbled(*size, 8, False)
    folded = weights.direct(layer, 2, arithmetic, inputs, other)
    kernels.of(arithmetic).begin_beside(
        *Moving.random(2, 16).arrays(), maps_of(image, arithmetic.half), False, _room(2, 2, width, inputs, arithmetic),
        folded.weights, folded.activation, *size, out, second,
    )  # fmt: skip
    torch.testing.assert_close(
        pixels_of(out, *size), convolved(layer, image, 2), atol=1e-5, rtol=2**-8 if arithmetic.half else 0
    )
    answer = pixels_of(second, *size)[..., :others]
    torch.testing.assert_close(answer, convolved(other, image, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_a_broken_flow_reads_no_memory_but_the_frame(broken: float) -> None:
    moving = Moving.random(16, 16)
    moving.flow[:] = broken
    seen, _ = _begin(moving, 1, Arithmetic.FLOAT32)
    inside = seen[..., 6:12][seen[..., 6:12].isfinite()]
    assert ((inside >= 0) & (inside <= 1)).all()
