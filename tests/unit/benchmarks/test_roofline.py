"""The roofline counts what the network multiplies, and its floor is the slower of two limits."""

from __future__ import annotations

import pytest

from benchmarks import roofline
from model import flops
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.flops import LayerCost


@pytest.mark.parametrize("config", [ModelConfig.paper(), ModelConfig.tiny()])
def test_multiply_adds_are_those_that_are_reported(config: ModelConfig) -> None:
    for index in range(config.blocks):
        found = sum(macs for macs, _ in flops.layers(64, 96, index, config))
        assert found == flops.block(64, 96, index, config)


def test_the_floor_waits_for_products_or_for_memory() -> None:
    peaks = roofline.Peaks(products=10.0, copying=100.0)
    found = roofline.work([LayerCost(50, 1), LayerCost(1, 300)], 4, peaks)
    assert found == roofline.Work(macs=51.0, bytes=1204.0, floor=5.0 + 12.0)


def test_every_part_is_timed() -> None:
    took = roofline.measured(DMVFN(ModelConfig.tiny()).eval(), 32, 48, 0.0)
    assert list(took) == ["routing", "scale 4", "scale 2", "scale 1", "nine blocks"]
    assert 0 < took["nine blocks"] < 60
