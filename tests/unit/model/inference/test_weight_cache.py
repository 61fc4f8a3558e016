"""What was made from a network's weights is made anew exactly when they are others."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from model.inference.weight_cache import WeightCache


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sequential(nn.Linear(2, 2)))


def _in_place(network: nn.Sequential) -> None:
    with torch.no_grad():
        network.get_parameter("0.weight").mul_(2)


def _data(network: nn.Sequential) -> None:
    network.get_parameter("0.weight").data = torch.ones(1, 1, 1, 1)


def _parameter(network: nn.Sequential) -> None:
    network.get_submodule("1.0").bias = nn.Parameter(torch.ones(2))


def _module(network: nn.Sequential) -> None:
    network[1] = copy.deepcopy(network[1])


def _loaded(network: nn.Sequential) -> None:
    network.load_state_dict(_network().state_dict())


def _inference(network: nn.Sequential) -> None:
    with torch.inference_mode():
        network.get_submodule("1.0").weight = nn.Parameter(torch.ones(2, 2), requires_grad=False)


@pytest.mark.parametrize("change", [_in_place, _data, _parameter, _module, _loaded, _inference])
def test_any_change_of_weights_is_seen(change: Callable[[nn.Sequential], None]) -> None:
    memo: WeightCache[object] = WeightCache()
    network = _network()
    first = memo.of(network, object)
    assert memo.of(network, object) is first
    change(network)
    second = memo.of(network, object)
    assert second is not first
    assert memo.of(network, object) is second is memo.last(network)


def test_each_network_and_kind_has_its_own() -> None:
    memo: WeightCache[object] = WeightCache()
    one, other = _network(), _network()
    assert memo.last(one) is None
    made = memo.of(one, object, "half")
    assert memo.of(other, object, "half") is not made
    assert memo.of(one, object, "half") is made
    assert memo.of(one, object, "single") is not made
