"""The compiled loops do what torch's own operations do, and survive what torch's survive."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.dmvfn import warp

pytest.importorskip("numba")

from model.inference.cpu import frame_kernels, kernels
from model.inference.cpu.precision import Arithmetic
from model.inference.cpu.weights import VALUES
from tests.unit.model.inference.cpu.kinds import KINDS, pixels_of, rounded, scribbled


def _state(flow: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Flow 4xHxW and mask 1xHxW as the loops keep them: Hx(W+3)x6."""
    values: np.ndarray = F.pad(torch.cat((flow, mask)).permute(1, 2, 0), (0, 1, 1, 2)).contiguous().numpy()
    return values


def _gather(previous: torch.Tensor, current: torch.Tensor, height: int, width: int) -> np.ndarray:
    gather, maps = np.empty((2, height, width, 4), np.float32), scribbled(height, width, 6, False)
    kernels.of(Arithmetic.FLOAT32).load(previous.numpy(), current.numpy(), height, width, gather, maps)
    return gather


@pytest.mark.parametrize("arithmetic", KINDS)
def test_loading_pads_with_the_border_whatever_the_strides(arithmetic: Arithmetic) -> None:
    pixels = torch.rand(2, 5, 7, 3)
    previous, current = pixels.permute(0, 3, 1, 2)
    gather, maps = np.empty((2, 16, 16, 4), np.float32), scribbled(16, 16, 6, arithmetic.half)
    kernels.of(arithmetic).load(previous.numpy(), current.numpy(), 16, 16, gather, maps)
    expected = F.pad(torch.stack((previous, current)), (0, 9, 0, 11), mode="replicate")
    assert torch.equal(pixels_of(maps, 16, 16), rounded(expected.flatten(0, 1).permute(1, 2, 0), arithmetic.half))
    assert np.array_equal(gather[..., :3], expected.permute(0, 2, 3, 1).numpy())


def test_blending_mixes_both_warped_frames() -> None:
    previous, current, flow, mask, bias = _moved()
    gather = _gather(previous, current, 16, 32)
    moved, weight = flow + bias[:4, None, None], mask + bias[4]
    warped = [warp.warp(frame[None], moved[None, 2 * i : 2 * i + 2]) for i, frame in enumerate((previous, current))]
    frame, flow_out, mask_out = (np.empty((n, 13, 30), np.float32) for n in (3, 4, 1))
    frame_kernels.blend(_state(flow, mask), bias.numpy(), gather, frame, flow_out, mask_out)
    blended = warp.blend(warped[0], warped[1], weight[None])[0, :, :13, :30]
    torch.testing.assert_close(torch.from_numpy(frame), blended, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(flow_out), moved[:, :13, :30])
    torch.testing.assert_close(torch.from_numpy(mask_out), weight[:, :13, :30])


def _moved() -> tuple[torch.Tensor, ...]:
    """Two frames 3x16x32, a flow that leaves them here and there, a mask, and a bias for both."""
    torch.manual_seed(3)
    frames = torch.rand(2, 3, 16, 32)
    return *frames, 9 * torch.randn(4, 16, 32), torch.randn(1, 16, 32), torch.randn(VALUES)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_a_broken_flow_reads_no_memory_but_the_frame(broken: float) -> None:
    previous, current = torch.rand(2, 3, 16, 16)
    gather = _gather(previous, current, 16, 16)
    state = _state(torch.full((4, 16, 16), broken), torch.zeros(1, 16, 16))
    frame, flow, mask = (np.empty((n, 16, 16), np.float32) for n in (3, 4, 1))
    frame_kernels.blend(state, np.zeros(VALUES, np.float32), gather, frame, flow, mask)
    usable = frame[np.isfinite(frame)]
    assert ((usable >= 0) & (usable <= 1)).all()


@pytest.mark.parametrize("broken", [float("nan"), 3e38, -3e38])
def test_a_mask_weighs_to_the_end_and_broken_ones_are_seen(broken: float) -> None:
    gather = _gather(torch.zeros(3, 16, 16), torch.ones(3, 16, 16), 16, 16)
    state = _state(torch.zeros(4, 16, 16), torch.full((1, 16, 16), broken))
    frame, flow, mask = (np.empty((n, 16, 16), np.float32) for n in (3, 4, 1))
    frame_kernels.blend(state, np.zeros(VALUES, np.float32), gather, frame, flow, mask)
    # All of the current frame where the mask is far below zero, all of the previous one where it is far above.
    assert np.isnan(mask).all() if np.isnan(broken) else (frame == (broken < 0)).all()
