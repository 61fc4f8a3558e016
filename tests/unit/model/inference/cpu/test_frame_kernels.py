"""The compiled loops do what torch's own operations do, and survive what torch's survive."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.dmvfn import warp
from model.inference.cpu.weights import VALUES, WINDOW

pytest.importorskip("numba")

from model.inference.cpu import frame_kernels


def _state(flow: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Flow 4xHxW and mask 1xHxW as the loops keep them: Hx(W+2)x6."""
    values: np.ndarray = F.pad(torch.cat((flow, mask)).permute(1, 2, 0), (0, 1, 1, 1)).contiguous().numpy()
    return values


def _loaded(previous: torch.Tensor, current: torch.Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    gather, seen = np.empty((2, height, width, 4), np.float32), np.empty((height, width, 6), np.float32)
    frame_kernels.load(previous.numpy(), current.numpy(), gather, seen)
    return gather, seen


def test_loading_pads_with_the_border_whatever_the_strides() -> None:
    pixels = torch.rand(2, 5, 7, 3)
    previous, current = pixels.permute(0, 3, 1, 2)
    gather, seen = _loaded(previous, current, 16, 16)
    expected = F.pad(torch.stack((previous, current)), (0, 9, 0, 11), mode="replicate")
    assert np.array_equal(seen, expected.flatten(0, 1).permute(1, 2, 0).numpy())
    assert np.array_equal(gather[..., :3], expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("scale", [2, 4])
def test_reducing_is_bilinear_interpolation(scale: int) -> None:
    maps = torch.rand(16, 32, 17)
    reduced = np.empty((16 // scale, 32 // scale, 17), np.float32)
    frame_kernels.reduce(maps.numpy(), scale, reduced)
    expected = F.interpolate(maps.permute(2, 0, 1)[None], scale_factor=1 / scale, mode="bilinear")[0]
    torch.testing.assert_close(torch.from_numpy(reduced), expected.permute(1, 2, 0))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("bands", [1, 3])
def test_joining_is_upsampling_and_the_transposed_convolution(factor: int, bands: int) -> None:
    torch.manual_seed(factor)
    motion, spatial = torch.randn(1, 11, 2, 4), torch.randn(1, 8, 2 * factor, 4 * factor)
    kernel = torch.randn(19, 5, 4, 4)
    windows = F.pad(kernel.permute(0, 2, 3, 1), (0, 1)).reshape(19, WINDOW)
    taps = (motion[0].permute(1, 2, 0) @ windows[:11]).contiguous().numpy()
    state = np.zeros((4 * factor, 8 * factor + 2, VALUES), np.float32)
    room = np.empty((bands, 2, 4 * WINDOW), np.float32)
    seen = spatial[0].permute(1, 2, 0).contiguous().numpy()
    frame_kernels.join(taps, factor, seen, windows[11:].contiguous().numpy(), room, state)
    larger = F.interpolate(motion, scale_factor=factor, mode="bilinear")
    expected = F.conv_transpose2d(torch.cat((larger, spatial), 1), kernel, stride=2, padding=1)[0]
    torch.testing.assert_close(torch.from_numpy(state[:, 1:-1, :5]), expected.permute(1, 2, 0), atol=1e-4, rtol=0)


def test_advancing_warps_both_frames_and_blending_mixes_them() -> None:
    torch.manual_seed(3)
    previous, current = torch.rand(2, 3, 16, 32)
    flow, mask, bias = 9 * torch.randn(4, 16, 32), torch.randn(1, 16, 32), torch.randn(VALUES)
    gather, _ = _loaded(previous, current, 16, 32)
    state, seen = _state(flow, mask), np.empty((16, 32, 17), np.float32)
    frame_kernels.advance(state, bias.numpy(), gather, seen, True)
    moved, weight = flow + bias[:4, None, None], mask + bias[4]
    warped_previous, warped_current = (
        warp.warp(previous[None], moved[None, :2]),
        warp.warp(current[None], moved[None, 2:]),
    )
    expected = torch.cat((previous, current, warped_previous[0], warped_current[0], weight, moved))
    torch.testing.assert_close(torch.from_numpy(seen).permute(2, 0, 1), expected, atol=1e-5, rtol=0)

    frame, flow_out, mask_out = (np.empty((n, 13, 30), np.float32) for n in (3, 4, 1))
    frame_kernels.blend(state, bias.numpy(), gather, frame, flow_out, mask_out)
    blended = warp.blend(warped_previous, warped_current, weight[None])[0, :, :13, :30]
    torch.testing.assert_close(torch.from_numpy(frame), blended, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(flow_out), moved[:, :13, :30])
    torch.testing.assert_close(torch.from_numpy(mask_out), weight[:, :13, :30])


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_a_broken_flow_reads_no_memory_but_the_frame(broken: float) -> None:
    previous, current = torch.rand(2, 3, 16, 16)
    gather, _ = _loaded(previous, current, 16, 16)
    state = _state(torch.full((4, 16, 16), broken), torch.zeros(1, 16, 16))
    frame, flow, mask = (np.empty((n, 16, 16), np.float32) for n in (3, 4, 1))
    frame_kernels.blend(state, np.zeros(VALUES, np.float32), gather, frame, flow, mask)
    usable = frame[np.isfinite(frame)]
    assert ((usable >= 0) & (usable <= 1)).all()


def test_relu_sums_keep_the_rows_and_their_ends() -> None:
    maps = torch.randn(4, 6, 8)
    sums = np.empty((4, 24), np.float32)
    frame_kernels.relu_sums(maps.numpy(), sums)
    positive = maps.relu()
    expected = torch.cat((positive.sum(1), positive[:, 0], positive[:, -1]), 1)
    torch.testing.assert_close(torch.from_numpy(sums), expected)
