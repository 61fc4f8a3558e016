"""Rollouts: frames fed back, routes as the policy says, shared work only where routes agree."""

from __future__ import annotations

import pytest
import torch

from model.dmvfn import routing
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.evaluation.rollout import RolloutPolicy, Rollouts, policies, tensor
from model.inference import predict as inference


@pytest.fixture(scope="module")
def network() -> DMVFN:
    torch.manual_seed(7)
    network = DMVFN(ModelConfig.tiny()).eval()
    with torch.no_grad():
        network.l1.bias.add_(torch.linspace(-1.5, 1.5, 9))
    return network


@pytest.fixture
def rollouts(network: DMVFN) -> Rollouts:
    previous, current = torch.rand(2, 1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    return Rollouts(network, previous, current)


def test_the_second_step_sees_the_first_prediction(network: DMVFN, rollouts: Rollouts) -> None:
    first, second = rollouts.run(RolloutPolicy("full"), 2)
    current = torch.rand(2, 1, 3, 32, 48, generator=torch.Generator().manual_seed(0))[1]
    expected = inference.predict(network, current, first.frame, torch.ones(1, 9, dtype=torch.bool))
    assert torch.equal(second.frame, expected.frame)


def test_routes_are_those_of_the_policy(network: DMVFN, rollouts: Rollouts) -> None:
    previous, current = torch.rand(2, 1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    likely = inference.probabilities(network, previous, current)
    expected = {
        "full": "111111111",
        "auto": "".join("01"[int(bit)] for bit in routing.auto(likely)[0]),
        "budget 2": "".join("01"[int(bit)] for bit in routing.budget(likely, [2])[0]),
    }
    found = {p.name: rollouts.run(p, 1)[0].route for p in policies(9) if p.name in expected}
    assert found == expected


def test_equal_routes_share_one_answer(rollouts: Rollouts) -> None:
    assert rollouts.run(RolloutPolicy("full"), 1)[0] is rollouts.run(RolloutPolicy("budget 9", 9), 1)[0]


def test_frames_become_tensors_in_0_to_1() -> None:
    frame = torch.full((2, 3, 3), 255, dtype=torch.uint8)
    assert torch.equal(tensor(frame, torch.device("cpu")), torch.ones(1, 3, 2, 3))
