"""What the router is taught: every route tried, an order of usefulness, and how many blocks were worth it."""

from __future__ import annotations

import math

import pytest
import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training import fixed_route, route_labels

INFINITE = float("inf")


def test_the_table_holds_the_error_of_every_route_that_runs_the_first_block() -> None:
    torch.manual_seed(1)
    network = DMVFN(ModelConfig.tiny()).eval()
    previous, current, target = torch.rand(3, 2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    blocks = (0, 3, 6)
    found, last = route_labels.errors(network, previous, current, target, blocks)
    assert found.shape == (2, 8)
    assert torch.isinf(found[:, ::2]).all()
    for route in range(1, 8, 2):
        ran = [block for bit, block in enumerate(blocks) if route >> bit & 1]
        with torch.no_grad():
            frame = fixed_route.run(network, previous, current, ran)[-1].frame
        torch.testing.assert_close(found[:, route], (frame - target).square().mean((1, 2, 3)))
    torch.testing.assert_close(last.frame, frame)  # the loop ended with all of them
    assert len({round(float(error), 9) for error in found[0, 1::2]}) == 4


def table(**decibels: float) -> torch.Tensor:
    """One row of errors from routes written as bits, the first block's first: b100=30 is block 0 alone, 30 dB."""
    row = torch.full((1, 8), INFINITE)
    for name, value in decibels.items():
        row[0, sum(1 << i for i, bit in enumerate(name[1:]) if bit == "1")] = 10 ** (-value / 10)
    return row


def order(targets: route_labels.RouterTargets) -> list[int]:
    return targets.probabilities[0].argsort(descending=True).tolist()


def test_the_least_missed_block_is_dropped_first_and_only_what_helps_is_worth_running() -> None:
    # Of blocks 0, 2 and 5, block 2 is missed less (33.5 dB without it) than block 5 (31).
    errors = table(b100=30.0, b110=31.0, b101=33.5, b111=34.0)
    close = route_labels.router_targets(errors, (0, 2, 5), 9, 4.5, tolerance=0.6)
    assert order(close)[:3] == [0, 5, 2]
    assert close.blocks.tolist() == [2.0]
    assert (close.probabilities[0] >= 0.5).nonzero().flatten().tolist() == [0, 5]
    exact = route_labels.router_targets(errors, (0, 2, 5), 9, 4.5, tolerance=0.1)
    assert exact.blocks.tolist() == [3.0]
    assert (exact.probabilities[0] >= 0.5).nonzero().flatten().tolist() == [0, 2, 5]


def test_where_nothing_moves_one_block_is_enough() -> None:
    still = table(b100=40.0, b110=40.0, b101=40.0, b111=40.0)
    targets = route_labels.router_targets(still, (0, 2, 5), 9, 4.5, tolerance=0.1)
    assert targets.blocks.tolist() == [1.0]
    assert order(targets)[:3] == [0, 2, 5]  # of equals the later goes first
    assert (targets.probabilities[0] >= 0.5).nonzero().flatten().tolist() == [0]


@pytest.mark.parametrize("number", range(1, 10))
def test_what_is_wanted_is_what_the_network_can_say(number: int) -> None:
    found = route_labels._descending(number, 9, 4.5)
    assert math.isclose(sum(found), 4.5)  # probabilities of the published module sum to that
    assert found == sorted(found, reverse=True)
    assert found[0] <= 1
    assert found[-1] >= 0
    assert all(p >= 0.5 for p in found[:number])
    assert all(p < 0.5 for p in found[number:])
