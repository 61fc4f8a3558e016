"""The arithmetic count equals what torch counts while the network runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model import flops
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN


def _counted(network: DMVFN, height: int, width: int, index: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.block(index)(torch.zeros(1, 13, height, width), torch.zeros(1, 4, height, width))
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("config", [ModelConfig.paper(), ModelConfig.tiny()], ids=["paper", "tiny"])
@pytest.mark.parametrize("size", [(32, 48), (64, 16)])
def test_every_block_costs_what_torch_counts(config: ModelConfig, size: tuple[int, int]) -> None:
    network = DMVFN(config)
    for index in range(config.blocks):
        assert flops.block(*size, index, config) == _counted(network, *size, index)


@pytest.mark.parametrize("published", [False, True])
def test_routing_costs_what_torch_counts(published: bool) -> None:
    network = DMVFN()
    frames = torch.zeros(1, 6, 32, 48)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        if published:
            network.l1(network.routing(frames).mean((2, 3)))
        else:
            network.routing_probabilities(frames[:, :3], frames[:, 3:])
    assert flops.routing(32, 48, published=published) == counter.get_total_flops() // 2


def test_the_papers_size_costs_what_the_fact_sheet_says() -> None:
    """Section a of the network's facts: 24.378 G for nine blocks at 512x1024, 46,497 a pixel."""
    nine = flops.count(512, 1024, [True] * 9, with_routing=False)
    assert round(nine / 1e9, 3) == 24.378
    assert round(nine / (512 * 1024)) == 46_497


def test_a_route_pays_for_its_blocks_only_and_for_padding() -> None:
    one = [i == 4 for i in range(9)]
    assert flops.count(30, 33, one) == flops.block(32, 48, 4) + flops.routing(32, 48)
    with pytest.raises(ValueError, match="9 entries"):
        flops.count(32, 32, [True] * 8)
