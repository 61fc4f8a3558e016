"""Starts parts of a trained network anew: a block as a copy of another, the router without an opinion."""

from __future__ import annotations

import torch

from model.dmvfn.network import DMVFN

#: What is left of the copied block's last layer: enough for a gradient to reach every layer below at once.
WHISPER = 0.05


@torch.no_grad()
def copy_block(network: DMVFN, seed: str) -> None:
    """Copy a block as `seed` says: "from>to", block numbers of one scale. Raises ValueError where it is not."""
    source, arrow, target = seed.partition(">")
    if not (arrow and source.isdigit() and target.isdigit()):
        raise ValueError(f"a seed is written from>to, not {seed!r}")
    state = {name: tensor.clone() for name, tensor in network.block(int(source)).state_dict().items()}
    state["lastconv.weight"] *= WHISPER
    state["lastconv.bias"] *= WHISPER
    network.block(int(target)).load_state_dict(state)


@torch.no_grad()
def fresh_router(network: DMVFN) -> None:
    """Make every block as probable as any other for every pair: sigmoid of 0, normalised, is 1/2."""
    network.l1.weight.zero_()
    network.l1.bias.zero_()
