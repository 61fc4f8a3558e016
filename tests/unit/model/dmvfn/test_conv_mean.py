"""The mean of a convolution from sums: equal to running it, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.dmvfn import conv_mean


def _case(height: int, width: int, kind: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(height * 100 + width)
    shapes = ((2, 5, height, width), (4, 5, 3, 3), (4,))
    return tuple(torch.randn(shape, generator=rng, dtype=kind) for shape in shapes)


@pytest.mark.parametrize("size", [(16, 32), (3, 5), (1, 7), (1, 1), (2, 2)])
def test_sums_give_the_mean_of_the_convolution(size: tuple[int, int]) -> None:
    maps, weight, bias = _case(*size)
    rows = torch.stack((maps.sum(3), maps[..., 0], maps[..., -1]), 1).permute(0, 3, 1, 2)
    expected = F.conv2d(maps, weight, bias, padding=1).mean((2, 3))
    torch.testing.assert_close(conv_mean.mean_of_rows(rows, weight, bias, size[1]), expected)
    torch.testing.assert_close(conv_mean.mean_of_convolution(maps, weight, bias), expected)


def test_half_precision_maps_are_summed_in_double() -> None:
    maps = torch.ones(1, 1, 64, 512, dtype=torch.bfloat16)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    assert float(conv_mean.mean_of_convolution(maps, weight, torch.zeros(1))) == 1.0


def test_gradients_are_those_of_the_convolution() -> None:
    maps, weight, bias = (part.requires_grad_() for part in _case(6, 4, torch.float32))
    ours = torch.autograd.grad(conv_mean.mean_of_convolution(maps, weight, bias).square().sum(), (maps, weight, bias))
    mean = F.conv2d(maps, weight, bias, padding=1).mean((2, 3))
    theirs = torch.autograd.grad(mean.square().sum(), (maps, weight, bias))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
