"""Several processes: two end with the same weights, and stop at the same step."""

from __future__ import annotations

from pathlib import Path

import torch

from model.training import processes
from tests.system.e2e import forks
from tests.system.e2e.process import free_port
from tests.unit.model.training import ddp_worker


def test_alone_a_process_leads_and_opens_no_group() -> None:
    with processes.join("cpu", {}) as rank:
        assert (rank.index, rank.world, rank.leads) == (0, 1, True)
        assert processes.anyone(True, rank)
        processes.wait(rank)
    assert not torch.distributed.is_initialized()


def test_two_processes_share_gradients_and_stop_together(tmp_path: Path) -> None:
    """Each starts from its own weights; one asks to stop before the fourth step: both do, with equal weights."""
    # What torchrun tells each, without its launcher: that and two new interpreters load torch for 9 s of a processor.
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    environments = [{**address, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    ranks = [forks.context().Process(target=ddp_worker.start, args=(tmp_path, env)) for env in environments]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
        process.kill()  # one that waits for another which has failed
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    (step0, rank0), (step1, rank1) = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert (step0, step1) == (3, 3)
    assert all(torch.equal(rank0[name], rank1[name]) for name in rank0)
