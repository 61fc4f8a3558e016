"""Route policies: pure, never empty, independent of neighbours."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.dmvfn import routing

probabilities = st.lists(st.lists(st.floats(0, 1, width=32), min_size=9, max_size=9), min_size=1, max_size=5).map(
    torch.tensor
)


@given(probabilities)
def test_auto_runs_every_probable_block_and_never_none(p: torch.Tensor) -> None:
    routes = routing.auto(p)
    for row, chosen in zip(p, routes, strict=True):
        wanted = row >= routing.AUTO_THRESHOLD
        if not wanted.any():
            wanted[row.argmax()] = True
        assert torch.equal(chosen, wanted)


@given(probabilities, st.integers(0, 2**40))
def test_a_seeded_draw_does_not_depend_on_neighbours(p: torch.Tensor, seed: int) -> None:
    seeds = [seed + i for i in range(len(p))]
    together = routing.sample(p, seeds)
    alone = torch.cat([routing.sample(p[i : i + 1], seeds[i : i + 1]) for i in range(len(p))])
    assert torch.equal(together, alone)
    assert together.any(1).all()


def test_draws_follow_the_probabilities() -> None:
    p = torch.tensor([[0.0, 1.0, 0.5, 0.2, 0.9, 0.0, 1.0, 0.3, 0.6]])
    draws = routing.sample(p.expand(4000, 9), list(range(4000))).float().mean(0)
    torch.testing.assert_close(draws, p[0], atol=0.04, rtol=0)


@given(probabilities, st.integers(1, 9))
def test_a_budget_takes_the_most_probable_blocks(p: torch.Tensor, blocks: int) -> None:
    routes = routing.budget(p, [blocks] * len(p))
    assert routes.sum(1).tolist() == [blocks] * len(p)
    for row, chosen in zip(p, routes, strict=True):
        if blocks < 9:
            assert row[chosen].min() >= row[~chosen].max()


def test_ties_go_to_the_earlier_block() -> None:
    assert routing.budget(torch.full((1, 9), 0.5), [2]).tolist() == [[True, True] + [False] * 7]


def test_an_explicit_route_is_read_digit_by_digit() -> None:
    assert routing.explicit("100000001").nonzero().flatten().tolist() == [0, 8]
    with pytest.raises(ValueError, match="0 and 1"):
        routing.explicit("10000000x")


def test_straight_through_gates_have_the_routes_value_and_the_probabilities_gradient() -> None:
    p = torch.tensor([[0.3, 0.7]], requires_grad=True)
    gates = routing.straight_through(p, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(gates.detach(), torch.tensor([[1.0, 0.0]]))
    torch.autograd.backward((gates * torch.tensor([2.0, 5.0])).sum())
    assert p.grad is not None
    assert p.grad.tolist() == [[2.0, 5.0]]
