"""One process or several: what `torchrun` says, and the few things processes must agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, slots=True)
class Rank:
    """Where this process stands among those of the run."""

    index: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable

    @property
    def leads(self) -> bool:
        """Tell whether this process writes the files and the progress."""
        return self.index == 0


@contextmanager
def join(device: str, environment: Mapping[str, str] = os.environ) -> Iterator[Rank]:
    """Join the run's processes, and yield this one's rank.

    Under `torchrun` (RANK, WORLD_SIZE, LOCAL_RANK set) the group is open meanwhile.
    """
    world = int(environment.get("WORLD_SIZE", "1"))
    local = int(environment.get("LOCAL_RANK", "0"))
    own_device = torch.device(device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu"))
    if own_device.type == "cuda":
        own_device = torch.device("cuda", own_device.index if own_device.index is not None else local)
        torch.cuda.set_device(own_device)
    if world == 1:
        yield Rank(device=own_device)
        return
    dist.init_process_group("nccl" if own_device.type == "cuda" else "gloo")
    try:
        yield Rank(dist.get_rank(), dist.get_world_size(), own_device)
    finally:
        dist.destroy_process_group()


def anyone(flag: bool, rank: Rank) -> bool:
    """Tell whether any process says yes: all must stop at the same step, or the others wait for ever."""
    if rank.world == 1:
        return flag
    vote = torch.tensor([float(flag)], device=rank.device)
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote.item())


@torch.no_grad()
def share(network: nn.Module, rank: Rank) -> None:
    """Give every process the leader's weights: the running mean of the weights starts from them, too."""
    if rank.world > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, src=0)


def wait(rank: Rank) -> None:
    """Wait until every process is here."""
    if rank.world > 1:
        dist.barrier()
