"""Derives what the router should say of a sample: which blocks are worth running, by running all their subsets.

Instead of the published straight-through estimate, where few blocks are trained: with five there are sixteen routes,
which is cheap enough to know and needs no luck. Cost doubles with every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.dmvfn.network import DMVFN
from model.dmvfn.routing import AUTO_THRESHOLD
from model.training import fixed_route
from model.training.fixed_route import State

#: Probabilities wanted of blocks that should run go down to this one, the first being certain.
LEAST = 0.7
#: None is wanted nearer than this to the threshold, but where the sum leaves no choice.
CLEARANCE = 0.04


class RouterTargets(NamedTuple):
    """What the router is taught of a batch."""

    probabilities: Tensor  #: Bxn in 0..1; rows sum to the network's expected number of blocks
    blocks: Tensor  #: B: how many are worth running, those of the largest probabilities


@torch.no_grad()
def errors(
    network: DMVFN, previous: Tensor, current: Tensor, target: Tensor, blocks: Sequence[int]
) -> tuple[Tensor, State]:
    """Mean squared error of every route over `blocks` (run in that order), BxR with R = 2 to the number of blocks.

    Bit i of a column's number says that blocks[i] runs. The first one always does: columns without it are infinite.
    The second value is the state after all of them.
    """
    table = previous.new_full((previous.shape[0], 1 << len(blocks)), float("inf"))

    def walk(position: int, route: int, state: State) -> State:
        if position == len(blocks):
            table[:, route] = (state.frame.float() - target).square().mean((1, 2, 3))
            return state
        if position:
            walk(position + 1, route, state)
        return walk(
            position + 1,
            route | 1 << position,
            fixed_route.advance(network, previous, current, state, blocks[position]),
        )

    return table, walk(0, 0, fixed_route.start(previous, current))


def router_targets(errors: Tensor, blocks: Sequence[int], count: int, total: float, tolerance: float) -> RouterTargets:
    """Derive from a table of `errors` an order of usefulness, and how many of it are worth running.

    The order is the one in which dropping the least missed block again and again leaves them; as many are worth
    running as bring the sample within `tolerance` decibels of the best of these routes. `count`: blocks of the
    network; those not among `blocks` come last.
    """
    rows = [_row(row, blocks, count, total, tolerance) for row in errors.double().cpu().log10().mul(-10).tolist()]
    probabilities = torch.tensor([row for row, _ in rows], dtype=torch.float32, device=errors.device)
    return RouterTargets(probabilities, torch.tensor([float(number) for _, number in rows], device=errors.device))


def _row(
    decibels: list[float], blocks: Sequence[int], count: int, total: float, tolerance: float
) -> tuple[list[float], int]:
    route, positions, removals = (1 << len(blocks)) - 1, list(range(len(blocks))), []
    scores = [decibels[route]]
    while len(positions) > 1:
        # Of equals the later block goes first: what it refines costs as much and helps less.
        least = max(positions[1:], key=lambda i: (decibels[route & ~(1 << i)], i))
        route &= ~(1 << least)
        positions.remove(least)
        removals.append(least)
        scores.append(decibels[route])
    order = [blocks[i] for i in (*positions, *reversed(removals))]
    scores.reverse()  # of the first block alone, of the first two, ...
    number = next(i for i, score in enumerate(scores, start=1) if score >= max(scores) - tolerance)
    order += [i for i in range(count) if i not in order]
    probabilities = [0.0] * count
    for block, probability in zip(order, _descending(number, count, total), strict=True):
        probabilities[block] = probability
    return probabilities, number


def _descending(number: int, count: int, total: float) -> list[float]:
    """Return falling probabilities of sum `total`: the first `number` above the threshold, the rest below."""
    mean = min((1 + LEAST) / 2, total / number)
    spread = max(0.0, min(1 - mean, mean - AUTO_THRESHOLD - CLEARANCE))
    running = [mean + spread * (1 - 2 * i / max(1, number - 1)) for i in range(number)]
    remainder, others = total - sum(running), count - number
    if not others:
        return running
    rest = remainder / others
    slope = max(0.0, min(0.2 * rest, AUTO_THRESHOLD - CLEARANCE - rest))
    return running + [rest + slope * (1 - 2 * i / max(1, others - 1)) for i in range(others)]
