"""Starting parts of a network anew."""

from __future__ import annotations

import pytest
import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training.reinitialise import copy_block, fresh_router


@pytest.mark.parametrize("seed", ["0", "0-1", "a>b", ">1"])
def test_a_seed_is_written_from_to(seed: str) -> None:
    with pytest.raises(ValueError, match="from>to"):
        copy_block(DMVFN(ModelConfig.tiny()), seed)


def test_a_fresh_router_prefers_no_block() -> None:
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny())
    fresh_router(network)
    likely = network.routing_probabilities(*torch.rand(2, 1, 3, 32, 32)).detach()
    torch.testing.assert_close(likely, torch.full((1, 9), 0.5), atol=1e-5, rtol=0)
