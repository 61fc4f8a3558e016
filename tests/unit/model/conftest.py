"""Small networks every test of this folder may use."""

from __future__ import annotations

import pytest
import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN


@pytest.fixture(scope="session")
def tiny_network() -> DMVFN:
    """Few channels, random weights large enough that every block moves pixels."""
    torch.manual_seed(7)
    network = DMVFN(ModelConfig.tiny()).eval()
    with torch.no_grad():
        for i in range(network.config.blocks):
            network.block(i).lastconv.weight.mul_(3)
        network.l1.bias.add_(torch.linspace(-1.5, 1.5, 9))
    return network
