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
        """Whether this process writes the files and the progress."""
        return self.rank == 0


@contextmanager
def joined(device: str, environment: Mapping[str, str] = os.environ) -> Iterator[Rank]:
    """This process's place; under `torchrun` (RANK, WORLD_SIZE, LOCAL_RANK are set) the group is open meanwhile."""
    world = int(environment.get("WORLD_SIZE", "1"))
    local = int(environment.get("LOCAL_RANK", "0"))
    chosen = torch.device(device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda":
        chosen = torch.device("cuda", chosen.index if chosen.index is not None else local)
        torch.cuda.set_device(chosen)
    if world == 1:
        yield Rank(device=chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Rank(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def anyone(flag: bool, place: Rank) -> bool:
    """Whether any process says yes: all must stop at the same step, or the others wait for ever."""
    if place.world == 1:
        return flag
    said = torch.tensor([float(flag)], device=place.device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    return bool(said.item())


@torch.no_grad()
def share(network: nn.Module, place: Rank) -> None:
    """Give every process the leader's weights: the running mean of the weights starts from them, too."""
    if place.world > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, src=0)


def wait(place: Rank) -> None:
    """Until every process is here."""
    if place.world > 1:
        dist.barrier()
