"""Builds the optimizer of a phase, its learning-rate curve, and the running mean of the weights.

AdamW is the published choice. Muon orthogonalises the momentum of every convolution: on the CPU budget this
repository trained on, it reached in fewer steps what AdamW did (docs/evaluation.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from model.training.plan import Phase

#: Coefficients of the quintic Newton-Schulz iteration (K. Jordan, 2024): five rounds bring singular values near 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Momentum whose matrix is replaced by its nearest orthogonal one; for convolution kernels."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, kind: torch.dtype = torch.float32
    ) -> None:
        """Take kernels to update; matrices are orthogonalised in numbers of `kind`."""
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._kind = kind

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: nothing re-evaluates the loss
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(mean, group["momentum"])
                rows, columns = ahead.shape[0], ahead[0].numel()
                step = orthogonal(ahead.reshape(rows, columns).to(self._kind)).to(ahead.dtype).reshape(ahead.shape)
                parameter.add_(step, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Move the singular values of a matrix near 1."""
    a, b, c = _QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (torch.linalg.norm(x) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x if wide else x.T
    return result


class Optimizers:
    """The optimizers of a phase behind one set of verbs."""

    def __init__(self, network: nn.Module, phase: Phase) -> None:
        learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in learning]
        kernels = [p for name, p in learning if phase.optimizer == "muon" and p.dim() == 4 and "lastconv" not in name]
        kernel_ids = {id(p) for p in kernels}
        rest = [p for p in self.parameters if id(p) not in kernel_ids]
        adam = AdamW(rest, lr=phase.learning_rate, weight_decay=phase.weight_decay)
        self._optimizers: list[tuple[Optimizer, float]] = [(adam, phase.learning_rate)]
        if kernels:
            kind = torch.bfloat16 if phase.muon_precision == "bf16" else torch.float32
            self._optimizers.append((Muon(kernels, lr=phase.muon_rate, kind=kind), phase.muon_rate))
        self._clip = phase.clip_norm

    def zero(self) -> None:
        """Forget the gradients."""
        for optimizer, _ in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self, factor: float) -> float:
        """Clip, update at `factor` times the phase's learning rates; return the gradient's norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self._clip)
        for optimizer, rate in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
        return float(norm)

    def state(self) -> list[dict[str, Any]]:
        """Return the optimizers' states, for `restore`."""
        return [optimizer.state_dict() for optimizer, _ in self._optimizers]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Continue as the optimizers that gave `states`."""
        for (optimizer, _), state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def curve(step: int, phase: Phase, floor: float = 0.02) -> float:
    """Return the learning rate's factor at a step of a phase: linear warm-up, then 1 or a cosine from 1 to `floor`."""
    if step < phase.warm_up:
        return (step + 1) / phase.warm_up
    if phase.schedule == "constant":
        return 1.0
    progress = (step - phase.warm_up) / max(1, phase.steps - phase.warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def follow(mean: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the running mean of the weights one step; a phase's first steps weigh more, so that it forgets its start."""
    keep = min(decay, (step + 1) / (step + 20))
    for average, parameter in zip(mean.parameters(), network.parameters(), strict=True):
        average.lerp_(parameter, 1 - keep)
