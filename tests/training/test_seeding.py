"""Starting parts of a network anew."""

from __future__ import annotations

import pytest
import torch

from model.config import ModelConfig
from model.network import DMVFN
from model.training import chain
from model.training.seeding import copy_block, fresh_router


@pytest.mark.parametrize("seed", ["0", "0-1", "a>b", ">1"])
def test_a_seed_is_written_from_to(seed: str) -> None:
    with pytest.raises(ValueError, match="from>to"):
        copy_block(DMVFN(ModelConfig.tiny()), seed)


def test_a_repeat_becomes_a_block_of_its_own() -> None:
    """What block 0 does when it comes again, block 1 does alike once it was started from it."""
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny())
    older, newer = torch.rand(2, 2, 3, 32, 48)
    with torch.no_grad():
        expected = chain.run(network, older, newer, (0, 0, 3, 0))
        copy_block(network, "0=>1")
        copy_block(network, "0=>2")
        found = chain.run(network, older, newer, (0, 1, 3, 2))
    assert float(expected[1].flow.abs().max()) > 0
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one.flow, other.flow, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.frame, other.frame, atol=1e-5, rtol=1e-5)


def test_a_repeat_learns_from_its_own_output_alone() -> None:
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny())
    older, newer = torch.rand(2, 1, 3, 32, 32)
    steps = chain.run(network, older, newer, (3, 0, 0))
    steps[-1].frame.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert network.block(3).lastconv.weight.grad is None
    assert network.block(0).lastconv.weight.grad is not None


def test_a_fresh_router_prefers_no_block() -> None:
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny())
    fresh_router(network)
    likely = network.routing_probabilities(*torch.rand(2, 1, 3, 32, 32)).detach()
    torch.testing.assert_close(likely, torch.full((1, 9), 0.5), atol=1e-5, rtol=0)
