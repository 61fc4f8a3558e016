"""Saved state: whole or not at all, in small files where asked, and never another run's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.training import state
from model.training.state import StateError

TREE = {"weights": {"a": torch.arange(5000.0)}, "phase": 1, "optimizers": [{"step": 3}]}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    assert state.load(tmp_path, "run") is None
    state.save(tmp_path, 7, "run", TREE)
    found = state.load(tmp_path, "run")
    assert found is not None
    step, tree = found
    assert (step, tree["phase"], tree["optimizers"]) == (7, 1, [{"step": 3}])
    assert torch.equal(tree["weights"]["a"], TREE["weights"]["a"])  # type: ignore[index]  # a literal above


def test_parts_stay_below_the_size_asked_for_and_replace_the_old(tmp_path: Path) -> None:
    state.save(tmp_path, 1, "run", TREE)
    state.save(tmp_path, 2, "run", TREE, part_bytes=4096)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 4
    assert max(path.stat().st_size for path in files) <= 4096
    assert not list(tmp_path.glob("state-00000001.*"))
    found = state.load(tmp_path, "run")
    assert found is not None
    assert found[0] == 2


def test_damage_and_another_run_are_refused(tmp_path: Path) -> None:
    state.save(tmp_path, 1, "run", TREE)
    with pytest.raises(StateError, match="another run"):
        state.load(tmp_path, "other")
    part = next(tmp_path.glob("state-*.000"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(StateError, match="damaged"):
        state.load(tmp_path, "run")
