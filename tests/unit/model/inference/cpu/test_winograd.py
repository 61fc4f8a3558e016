"""Thirty-six small products are the 3x3 convolution they replace, at every size and whatever the last tile holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.inference.cpu import winograd


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (4, 4), (5, 9), (16, 28)])
@pytest.mark.parametrize("residual", [False, True])
def test_transforms_and_products_equal_the_convolution_its_prelu_and_a_sum(
    height: int, width: int, residual: bool
) -> None:
    pytest.importorskip("numba")
    from model.inference.cpu import compiler, winograd_kernels

    torch.manual_seed(height * width)
    maps, kernel = torch.randn(height, width, 16), torch.randn(8, 16, 3, 3) / 12
    bias, slopes, more = torch.randn(8), torch.rand(8), torch.randn(height, width, 8)
    threads, count = compiler.use_threads(2), winograd.tiles(height, width)
    tiles, room = np.empty((36, count, 16), np.float32), np.empty((threads, 7, (width + 7) * 16), np.float32)
    winograd_kernels.winograd_input(maps.numpy(), room, tiles)
    products = torch.bmm(torch.from_numpy(tiles), winograd.weights(kernel)).numpy()
    answer, room = np.empty((height, width, 8), np.float32), np.empty((threads, 28 * (width + 3) * 8), np.float32)
    added = more.numpy() if residual else more.numpy()[:0]
    winograd_kernels.winograd_output(
        products, torch.stack((bias, slopes)).numpy(), added, room.reshape(threads, -1), answer
    )

    image = maps.permute(2, 0, 1)[None].double()
    expected = F.prelu(F.conv2d(image, kernel.double(), bias.double(), 1, 1), slopes.double())[0].permute(1, 2, 0)
    if residual:
        expected = expected + more
    torch.testing.assert_close(torch.from_numpy(answer), expected.float(), atol=2e-5, rtol=0)


def test_a_constant_image_needs_only_the_sum_of_a_kernel() -> None:
    kernel = torch.ones(1, 1, 3, 3)
    # The first product of F(4x4, 3x3) sees a quarter of the corner tap in each direction.
    assert winograd.weights(kernel)[0].item() == pytest.approx(1 / 16)
    assert winograd.weights(kernel).shape == (winograd.PRODUCTS, 1, 1)


def test_tiles_cover_what_is_left_over() -> None:
    assert [winograd.tiles(h, w) for h, w in ((4, 4), (5, 4), (5, 9), (1, 1))] == [1, 2, 6, 1]
