"""A seed that is none is refused."""

from __future__ import annotations

import pytest

from model.config import ModelConfig
from model.network import DMVFN
from model.training.seeding import copy_block


@pytest.mark.parametrize("seed", ["0", "0-1", "a>b", ">1"])
def test_a_seed_is_written_from_to(seed: str) -> None:
    with pytest.raises(ValueError, match="from>to"):
        copy_block(DMVFN(ModelConfig.tiny()), seed)
