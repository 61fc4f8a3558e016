"""The losses: the published pyramid on golden vectors, and the gradient of each."""

from __future__ import annotations

import math

import pytest
import torch

from model.training import losses
from tests.golden import vectors

CASES = [name for name, case in vectors.meta()["cases"].items() if "lap_pred_gt" in case]


def _frames(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_the_pyramid_loss_is_the_published_one(case: str) -> None:
    about = vectors.meta()["cases"][case]
    prediction, target = vectors.tensor(f"{case}.pred")[None], vectors.tensor(f"in.{about['input']}.gt")[None]
    assert float(losses.laplacian(prediction, target)) == pytest.approx(about["lap_pred_gt"], rel=1e-5)


def test_the_pyramid_loss_ignores_a_constant_offset() -> None:
    """The low-pass rest is left out, so brightness alone costs nothing."""
    frame = _frames(1, 3, 64, 64)
    assert float(losses.laplacian(frame, frame + 0.1)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 3, 32, 64)])
def test_the_pyramid_loss_refuses_sides_it_cannot_halve(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        losses.laplacian(torch.zeros(shape), torch.zeros(shape))


def test_gradient_of_the_pyramid_loss() -> None:
    prediction, target = _frames(1, 1, 64, 64).requires_grad_(), _frames(1, 1, 64, 64, seed=1)
    assert torch.autograd.gradcheck(losses.laplacian, (prediction, target), fast_mode=True)


def test_gradient_of_the_smooth_difference() -> None:
    prediction, target = _frames(1, 2, 5, 5).requires_grad_(), _frames(1, 2, 5, 5, seed=1)
    assert torch.autograd.gradcheck(losses.charbonnier, (prediction, target))


def test_the_smooth_difference_is_zero_where_frames_agree() -> None:
    frame = _frames(1, 3, 8, 8)
    assert float(losses.charbonnier(frame, frame)) == pytest.approx(0, abs=1e-12)


def test_gradient_of_the_logarithmic_error() -> None:
    prediction, target = _frames(2, 2, 5, 5).requires_grad_(), _frames(2, 2, 5, 5, seed=1)
    assert torch.autograd.gradcheck(losses.log_mse, (prediction, target))


def test_the_logarithmic_error_is_the_mean_of_decibels() -> None:
    """Up to a factor and the floor: what a mean of PSNRs measures."""
    prediction, target = _frames(3, 3, 8, 8), _frames(3, 3, 8, 8, seed=1)
    decibels = -10 * (prediction - target).square().mean((1, 2, 3)).log10()
    assert float(losses.log_mse(prediction, target, floor=0.0)) * -10 / math.log(10) == pytest.approx(
        float(decibels.mean())
    )


def test_gradient_of_the_flow_distance() -> None:
    flow, known = _frames(1, 4, 4, 4).requires_grad_(), _frames(1, 4, 4, 4, seed=1)
    weight = _frames(1, 2, 4, 4, seed=2).round()
    assert torch.autograd.gradcheck(losses.flow_distance, (flow, known, weight))


def test_flow_counts_only_where_it_is_known() -> None:
    flow, known = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    known[:, 2:] = 3.0
    current_only = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert float(losses.flow_distance(flow, known, current_only)) == 3.0
    assert float(losses.flow_distance(flow, known, 1 - current_only)) == 0.0


def test_earlier_outputs_count_less() -> None:
    one = torch.ones((), requires_grad=True)
    total = losses.discounted([one, one, one])
    assert float(total.detach()) == pytest.approx(1 + 0.8 + 0.64)
    total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert float(one.grad) == pytest.approx(2.44)  # type: ignore[arg-type]  # set by backward
