"""Run files: every committed one reads, and a mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.cli import train
from model.training import plan
from model.training.plan import DataSource, Phase, PlanError, TrainConfig

PHASE = Phase("only", steps=10, synthetic=1.0)


@pytest.mark.parametrize("path", sorted(train.RUNS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_committed_run_reads(path: Path) -> None:
    assert plan.read(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"', "missing key phases"),
        ('name = "x"\nspeed = 3\nphases = []', "unknown key speed"),
        ('name = "x"\n[[phases]]\nname = "a"\nsteps = "many"', r"phases\[0\].steps must be int"),
        ('name = "x"\n[[phases]]\nname = "a"\nsteps = 5\nsize = 100', "multiple of 32"),
        ('name = "x"\n[[phases]]\nname = "a"\nsteps = 5', "need"),
        ('name = "x"\nprecision = "int3"\n[[phases]]\nname = "a"\nsteps = 5', "precision must be one of"),
        ("name = ", "Invalid value"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(PlanError, match=message):
        plan.read(path)


def test_a_whole_number_is_a_float_where_one_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = "x"\n[[phases]]\nname = "a"\nsteps = 5\nsynthetic = 1\nflow = [1, 0.5]')
    assert plan.read(path).phases[0] == Phase("a", steps=5, synthetic=1.0, flow=(1.0, 0.5))


def test_steps_belong_to_phases_in_turn() -> None:
    run = TrainConfig("x", (PHASE, Phase("next", steps=5, synthetic=1.0)))
    assert (run.steps, run.at(0), run.at(9), run.at(10), run.at(14)) == (15, (0, 0), (0, 9), (1, 0), (1, 4))
    with pytest.raises(IndexError):
        run.at(15)


def test_a_vgg_weight_needs_a_path() -> None:
    with pytest.raises(PlanError, match="vgg_weights"):
        TrainConfig("x", (Phase("a", steps=1, synthetic=1.0, vgg=0.5),))


def test_paths_move_under_a_folder_and_absent_ones_stay_absent() -> None:
    run = TrainConfig("x", (PHASE,), sources=(DataSource("clips"),), validation="val")
    moved = plan.under(run, Path("/data"))
    assert (moved.sources[0].path, moved.validation, moved.init) == ("/data/clips", "/data/val", "")
    shipped = TrainConfig("x", (PHASE,), init="shipped")
    assert plan.under(shipped, Path("/data")).init == "shipped"


def test_a_run_is_shortened_to_be_tried() -> None:
    assert plan.shortened(TrainConfig("x", (PHASE,)), 3).phases[0].steps == 3
