"""One process of a two-process run: trains the tiny network and writes down its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training import processes
from model.training.batches import Batches
from model.training.loop import Loop, RunOptions
from model.training.plan import Phase, TrainConfig

ROUTED = Phase("routed", 2, size=64, batch=1, routed=True, synthetic=1.0, shift=4.0, warm_up=1)
FIXED = Phase("fixed", 2, size=64, batch=1, blocks=(0, 3), train=(3,), synthetic=1.0, shift=4.0, warm_up=1)


def start(out: Path, environment: Mapping[str, str]) -> None:
    """Train as the rank that `environment` names, in torchrun's words; leave step and weights in `out`."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    with processes.join("cpu") as rank:
        # Another start on every rank: sharing must come from the run, not from luck with seeds.
        torch.manual_seed(rank.index)
        plan = TrainConfig("two", (FIXED, ROUTED), network="tiny")
        batches = Batches([], rank.device, plan.seed, rank.index)
        loop = Loop(plan, DMVFN(ModelConfig.tiny()), batches, out, rank, RunOptions(say=lambda line: None))
        loop.run(should_stop=lambda: rank.index == 1 and loop.step == 3)
        torch.save((loop.step, loop.network.state_dict()), out / f"rank{rank.index}.pt")
