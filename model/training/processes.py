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

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable

    @property
    def leads(self) -> bool:
        """Tell whether this process writes the files and the progress."""
        return self.rank == 0


@contextmanager
def joined(device: str, environment: Mapping[str, str] = os.environ) -> Iterator[Rank]:
    """Yield this process's place; under `torchrun` (RANK, WORLD_SIZE, LOCAL_RANK set) with the group open meanwhile."""
    world = int(environment.get("WORLD_SIZE", "1"))
    local = int(environment.get("LOCAL_RANK", "0"))
    place = torch.device(device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cuda":
        place = torch.device("cuda", place.index if place.index is not None else local)
        torch.cuda.set_device(place)
    if world == 1:
        yield Rank(device=place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Rank(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def anyone(flag: bool, place: Rank) -> bool:
    """Tell whether any process says yes: all must stop at the same step, or the others wait for ever."""
    if place.world == 1:
        return flag
    vote = torch.tensor([float(flag)], device=place.device)
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote.item())


@torch.no_grad()
def share(network: nn.Module, place: Rank) -> None:
    """Give every process the leader's weights: the running mean of the weights starts from them, too."""
    if place.world > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, src=0)


def wait(place: Rank) -> None:
    """Wait until every process is here."""
    if place.world > 1:
        dist.barrier()
