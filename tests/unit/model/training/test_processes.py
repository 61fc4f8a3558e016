"""Several processes: two under torchrun end with the same weights, and stop at the same step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from model.training import processes

ROOT = Path(__file__).parents[4]


def test_alone_a_process_leads_and_opens_no_group() -> None:
    with processes.joined("cpu", {}) as place:
        assert (place.rank, place.world, place.leads) == (0, 1, True)
        assert processes.anyone(True, place)
        processes.wait(place)
    assert not torch.distributed.is_initialized()


def test_two_processes_share_gradients_and_stop_together(tmp_path: Path) -> None:
    """Each starts from its own weights; one asks to stop before the fourth step: both do, with equal weights."""
    worker = "tests.unit.model.training.ddp_worker"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", worker]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (step0, rank0), (step1, rank1) = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert (step0, step1) == (3, 3)
    assert all(torch.equal(rank0[name], rank1[name]) for name in rank0)
