"""Winograd's weights hold the sums of a kernel that its products need; the products are tested with their loops."""

from __future__ import annotations

import pytest
import torch

from model.inference.cpu import winograd


def test_a_constant_image_needs_only_the_sum_of_a_kernel() -> None:
    kernel = torch.ones(1, 1, 3, 3)
    # The first product of F(4x4, 3x3) sees a quarter of the corner tap in each direction.
    assert winograd.weights(kernel)[0].item() == pytest.approx(1 / 16)
    assert winograd.weights(kernel).shape == (winograd.PRODUCTS, 1, 1)
