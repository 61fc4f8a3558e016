"""Joining a block's two paths is enlarging one of them and the transposed convolution of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("numba")

from model.dmvfn.block import VoxelFlowBlock
from model.inference.cpu import join_kernels, kernels, weights
from model.inference.cpu.precision import Arithmetic
from model.inference.cpu.weights import VALUES
from tests.unit.model.inference.cpu.kinds import KINDS, maps_of, rounded


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("bands", [1, 3])
def test_joining_is_enlarging_and_the_transposed_convolution(arithmetic: Arithmetic, scale: int, bands: int) -> None:
    torch.manual_seed(scale)
    block, factor = VoxelFlowBlock(scale, 44, 8).requires_grad_(False), 2 * scale
    kernel = block.lastconv.weight
    kernel[11:] = rounded(kernel[11:], arithmetic.half)
    folded = weights.fold(block, arithmetic)
    motion, spatial = torch.randn(2, 4, 11), rounded(torch.randn(2 * factor, 4 * factor, 8), arithmetic.half)
    before = torch.randn(4 * factor, 8 * factor + 3, VALUES)
    state = before.numpy().copy()
    room = np.full((bands, join_kernels.room_of(4, 4 * factor)), np.nan, np.float32)
    kernels.of(arithmetic).join(
        maps_of(F.pad(motion, (0, 1)), False), folded.motion_corners, 2, 4, factor,
        maps_of(spatial, arithmetic.half), folded.spatial_corners, 2 * factor, 4 * factor, room, state,
    )  # fmt: skip
    larger = F.interpolate(motion.permute(2, 0, 1)[None], scale_factor=factor, mode="bilinear")
    joined = torch.cat((larger, spatial.permute(2, 0, 1)[None]), 1)
    expected = F.conv_transpose2d(joined, kernel, stride=2, padding=1)[0].permute(1, 2, 0)
    added = torch.from_numpy(state) - before
    torch.testing.assert_close(added[:, 1:-2, :5], expected, atol=1e-5, rtol=0)
    assert not added[:, 1:-2, 5].any()
