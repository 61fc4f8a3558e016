"""The compiled convolutions equal torch's, in either type of numbers, at every size, and leave zeros around."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("numba")

from model.inference.cpu import compiler, kernels, packing, weights, winograd
from model.inference.cpu.precision import Arithmetic
from model.inference.layers import LayerParameters
from tests.unit.model.inference.cpu.kinds import KINDS, convolved, maps_of, pixels_of, random_layer, rounded, scribbled


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize(("stride", "inputs", "outputs"), [(2, 18, 22), (2, 22, 44), (1, 10, 96), (1, 8, 8)])
@pytest.mark.parametrize(("height", "width"), [(2, 4), (6, 12), (16, 48)])
def test_a_direct_convolution(
    arithmetic: Arithmetic, stride: int, inputs: int, outputs: int, height: int, width: int
) -> None:
    layer, image = (
        random_layer(inputs, outputs, arithmetic.half),
        rounded(torch.randn(height, width, inputs), arithmetic.half),
    )
    out, size = (
        scribbled(height // stride, width // stride, outputs, arithmetic.half),
        (height // stride, width // stride),
    )
    folded = weights.direct(layer, stride, arithmetic, inputs)
    kernels.of(arithmetic).direct(
        maps_of(image, arithmetic.half), folded.weights, folded.activation, stride, *size, out
    )
    expected = convolved(layer, image, stride)
    torch.testing.assert_close(pixels_of(out, *size), expected, atol=1e-5, rtol=2**-8 if arithmetic.half else 0)


@pytest.mark.parametrize("arithmetic", KINDS)
def test_a_narrow_convolution_of_float32(arithmetic: Arithmetic) -> None:
    layer, image, out = random_layer(8, 8), torch.randn(6, 12, 8), scribbled(6, 12, 8, arithmetic.half)
    folded = weights.narrow(layer, 1, Arithmetic.FLOAT32)
    kernels.of(arithmetic).narrow(maps_of(image, False), folded.weights, folded.activation, 1, 6, 12, out)
    expected = convolved(layer, image, 1)
    torch.testing.assert_close(pixels_of(out, 6, 12), expected, atol=1e-5, rtol=2**-8 if arithmetic.half else 0)


def test_channels_that_fill_no_vector_are_made_even_and_the_added_ones_are_zero() -> None:
    layer, pixels = random_layer(7, 11), torch.randn(5, 6, 7)
    folded = weights.direct(layer, 1, Arithmetic.FLOAT32)
    assert folded.outputs == 12
    out = scribbled(5, 6, 12, False)
    maps = maps_of(F.pad(pixels, (0, 1)), False)
    kernels.of(Arithmetic.FLOAT32).direct(maps, folded.weights, folded.activation, 1, 5, 6, out)
    answer = pixels_of(out, 5, 6)
    torch.testing.assert_close(answer[..., :11], convolved(layer, pixels, 1), atol=1e-5, rtol=0)
    assert not answer[..., 11].any()


@pytest.mark.parametrize("arithmetic", KINDS)
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 8), (44, 44), (44, 12), (8, 88)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (5, 9), (16, 28)])
@pytest.mark.parametrize("rows", [1, 3])
def test_an_inner_convolution_with_its_prelu(
    arithmetic: Arithmetic, inputs: int, outputs: int, height: int, width: int, rows: int
) -> None:
    layer, pixels = random_layer(inputs, outputs), rounded(torch.randn(height, width, inputs), arithmetic.half)
    out = scribbled(height, width, outputs, arithmetic.half)
    _inner(layer, pixels, out, rows, None, arithmetic)
    answer, expected = pixels_of(out, height, width), convolved(layer, pixels, 1)
    if arithmetic is Arithmetic.AMX:
        expected = convolved(layer._replace(weight=rounded(layer.weight, True)), pixels, 1)
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=2**-8)
    elif arithmetic.half:
        # Factors are rounded after the transforms: a few hundredths of what the sums are made of.
        assert (answer - expected).square().mean().sqrt() < 0.04 * expected.square().mean().sqrt()
    else:
        torch.testing.assert_close(answer, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("arithmetic", KINDS)
def test_an_inner_convolution_adds_a_residual_after_the_activation(arithmetic: Arithmetic) -> None:
    layer, pixels = random_layer(8, 8), rounded(torch.randn(6, 9, 8), arithmetic.half)
    more = rounded(100 * torch.randn(6, 9, 8), arithmetic.half)
    without, added = scribbled(6, 9, 8, arithmetic.half), scribbled(6, 9, 8, arithmetic.half)
    _inner(layer, pixels, without, 2, None, arithmetic)
    _inner(layer, pixels, added, 2, more, arithmetic)
    expected = pixels_of(without, 6, 9) + more
    torch.testing.assert_close(
        pixels_of(added, 6, 9), expected, atol=0.02 if arithmetic.half else 1e-5, rtol=2**-7 if arithmetic.half else 0
    )


@pytest.mark.parametrize("arithmetic", KINDS)
def test_the_last_of_them_multiplies_and_answers_in_float32(arithmetic: Arithmetic) -> None:
    layer, pixels, out = random_layer(44, 8), rounded(torch.randn(5, 9, 44), arithmetic.half), scribbled(5, 9, 8, False)
    _inner(layer, pixels, out, 1, None, arithmetic)
    torch.testing.assert_close(pixels_of(out, 5, 9), convolved(layer, pixels, 1), atol=5e-5, rtol=0)


def _inner(
    layer: LayerParameters,
    pixels: torch.Tensor,
    out: np.ndarray,
    rows: int,
    residual: torch.Tensor | None,
    arithmetic: Arithmetic,
) -> None:
    height, width, inputs = pixels.shape
    wide, loops = out.dtype == np.float32, kernels.of(arithmetic)
    maps = maps_of(pixels, arithmetic.half)
    more = maps if residual is None else maps_of(residual, arithmetic.half)
    if arithmetic is Arithmetic.AMX and not wide:
        folded = weights.direct(layer, 1, arithmetic)
        loops.inner(maps, folded.weights, folded.activation, more, residual is not None, height, width, out)
        return
    threads, count = compiler.use_threads(2), rows * -(-width // 4)
    folded = weights.tiled(layer, Arithmetic.FLOAT32 if wide else arithmetic)
    tiles = packing.numbers(torch.empty(threads, winograd.PRODUCTS * (count * inputs + 16)), not wide)
    sums = np.empty((threads, winograd.PRODUCTS * (count * out.shape[2] + 16)), np.float32)
    loop = loops.tiled_wide if wide else loops.inner
    loop(maps, folded.weights, folded.activation, more, residual is not None, height, width, rows, tiles, sums, out)
