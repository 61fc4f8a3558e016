"""Optimizers: Muon's steps are orthogonal, the curve has its shape, both parts learn, the mean follows."""

from __future__ import annotations

import copy
import dataclasses
from typing import Literal

import pytest
import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training import optimizers
from model.training.optimizers import Optimizers
from model.training.plan import Phase

PHASE = Phase("a", steps=100, warm_up=10, synthetic=1.0, learning_rate=1e-3)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 40), (40, 8)])
def test_singular_values_end_near_one(shape: tuple[int, int], kind: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(optimizers.orthogonal(matrix.to(kind)).float())
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_bfloat16_turns_a_step_by_little_and_keeps_the_momentum_exact() -> None:
    steps, momenta = [], []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        network = DMVFN(ModelConfig.tiny())
        before = [parameter.detach().clone() for parameter in network.parameters()]
        phase = dataclasses.replace(PHASE, optimizer="muon", muon_precision=precision)
        optimizer = Optimizers(network, phase)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        optimizer.step(1.0)
        changes = [now.detach() - old for now, old in zip(network.parameters(), before, strict=True)]
        steps.append(torch.cat([change.flatten() for change in changes if change.dim() == 4]))
        momenta.append([entry["momentum"] for entry in optimizer.state()[1]["state"].values()])
    exact, quick = steps
    assert float(torch.nn.functional.cosine_similarity(exact, quick, dim=0)) > 0.99
    assert all(torch.equal(one, other) for one, other in zip(*momenta, strict=True))


def test_the_rate_warms_up_and_falls() -> None:
    factors = [optimizers.curve(step, PHASE) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.51)
    assert factors[99] < 0.03


def test_a_constant_schedule_stays_where_the_warm_up_ended() -> None:
    """So that a phase may be cut anywhere and be the phase of that length."""
    steady = dataclasses.replace(PHASE, schedule="constant")
    assert [optimizers.curve(step, steady) for step in (0, 9, 10, 99)] == pytest.approx([0.1, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_both_kinds_update_every_parameter_and_restore(kind: Literal["adamw", "muon"]) -> None:
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny())
    phase = dataclasses.replace(PHASE, optimizer=kind, weight_decay=0.1)
    first = Optimizers(network, phase)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy(network)
    assert first.step(1.0) > 0
    assert all(not torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))
    twin = copy.deepcopy(network)
    second = Optimizers(twin, phase)
    second.restore(copy.deepcopy(first.state()))
    for parameter in twin.parameters():
        parameter.grad = torch.ones_like(parameter)
    first.zero()
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    first.step(0.5)
    second.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


def test_the_mean_forgets_its_start_soon() -> None:
    network, mean = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(1.0)
        mean.weight.fill_(0.0)
    for step in range(100):
        optimizers.follow(mean, network, 0.998, step)
    assert float(mean.weight.detach()) > 0.99
