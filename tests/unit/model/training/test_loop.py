"""The loop: it learns, it writes what it should, and a resumed run equals an uninterrupted one."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from model import checkpoint
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.training import batches
from model.training.batches import Batch, Batches
from model.training.decode import Clip
from model.training.filters import ClipVerdict
from model.training.loop import Loop, RunOptions
from model.training.plan import DataSource, Phase, TrainConfig
from model.training.processes import Rank
from tests.unit.model.training import pictures

CPU = torch.device("cpu")
FIXED = Phase(
    "fixed", 3, size=64, batch=2, blocks=(0, 3, 6), optimizer="muon", learning_rate=1e-3, warm_up=2, synthetic=0.5,
    shift=4.0, charbonnier=1.0, flow=(0.1, 0.0), muon_precision="bf16", teacher=True, teacher_preset="fast",
)  # fmt: skip
ROUTED = Phase("routed", 3, size=64, batch=2, routed=True, learning_rate=1e-3, warm_up=2, synthetic=0.5, shift=4.0)
PLAN = TrainConfig("short", (FIXED, ROUTED), sources=(DataSource("clips"),), network="tiny")


def _loop(plan: TrainConfig, out: Path, lines: list[str] | None = None, part_bytes: int | None = None) -> Loop:
    torch.manual_seed(plan.seed)
    network = DMVFN(ModelConfig.tiny())
    clips = batches.footage([Clip("a", pictures.sliding(9), ClipVerdict(typical=5.0))], CPU, 1, resident=False)
    say = (lambda line: None) if lines is None else lines.append
    options = RunOptions(log_every=2, say=say, part_bytes=part_bytes)
    return Loop(plan, network, Batches(clips, CPU, plan.seed), out, Rank(), options)


def _weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loop.network.state_dict().items()}


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "curves.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "samples_s"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    loop = _loop(PLAN, tmp_path_factory.mktemp("whole"))
    loop.run()
    return loop


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, whole: Loop, stop: int) -> None:
    """Stopped within the first phase, between the two, and within the second; weights and curves, bit for bit."""
    _loop(PLAN, tmp_path / "parts").run(until=stop)
    resumed = _loop(PLAN, tmp_path / "parts", part_bytes=100_000)
    assert resumed.step == stop
    resumed.run()
    expected, found = _weights(whole), _weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert _rows(whole.out) == _rows(tmp_path / "parts")


def test_a_stop_is_heard_at_the_next_step(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    loop = _loop(PLAN, tmp_path)
    loop.run(should_stop=lambda: next(asked))
    assert loop.step == 2
    assert _loop(PLAN, tmp_path).step == 2


def test_a_run_leaves_weights_curves_a_sheet_and_a_state(tmp_path: Path) -> None:
    lines: list[str] = []
    _loop(PLAN, tmp_path, lines).run()
    about = checkpoint.metadata(checkpoint.load(tmp_path / "dmvfn.safetensors"))
    assert (about.version, about.colour_order) == ("short-6", "RGB")
    assert "clips" in about.training_data
    assert {"curves.csv", "sheet.png", "state.json"} <= {path.name for path in tmp_path.iterdir()}
    assert [row["step"] for row in _rows(tmp_path)] == ["2", "4", "6"]
    assert "6/6" in lines[-1]
    assert "left" in lines[-1]


def test_frozen_blocks_and_the_router_stay_as_they_were(tmp_path: Path) -> None:
    only_three = Phase("a", 2, size=64, batch=2, blocks=(0, 3), train=(3,), synthetic=1.0, warm_up=1, shift=4.0)
    loop = _loop(TrainConfig("frozen", (only_three,)), tmp_path)
    before = _weights(loop)
    loop.run()
    changed = {name.split(".")[0] for name, tensor in _weights(loop).items() if not torch.equal(tensor, before[name])}
    assert changed == {"block3"}


def test_a_router_phase_teaches_the_router_alone_and_lowers_its_loss(tmp_path: Path) -> None:
    phase = Phase(
        "choose", 30, size=64, batch=4, blocks=(0, 3), router_tolerance=0.1, fresh_router=True, synthetic=0.5,
        shift=4.0, warm_up=1, learning_rate=0.02, schedule="constant", weight_decay=0.0,
    )  # fmt: skip
    loop = _loop(TrainConfig("chosen", (phase,), sources=(DataSource("clips"),), network="tiny"), tmp_path)
    before = _weights(loop)
    loop.run()
    changed = {name.split(".")[0] for name, tensor in _weights(loop).items() if not torch.equal(tensor, before[name])}
    assert changed == {"routing", "l1"}
    rows = _rows(tmp_path)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) - 0.03  # two of nine blocks: at most 0.05 to gain
    assert 1 <= float(rows[-1]["blocks"]) <= 2
    batch = Batches([], CPU, 0).make(0, dataclasses.replace(phase, synthetic=1.0))
    favourites = loop.network.routing_probabilities(batch.previous, batch.current).topk(2).indices
    assert set(favourites.flatten().tolist()) == {0, 3}


def test_a_seed_starts_a_block_as_a_copy(tmp_path: Path) -> None:
    seeded = Phase("a", 1, size=64, batch=1, blocks=(0,), seeds=("0>1",), synthetic=1.0, warm_up=1, learning_rate=0.0)
    loop = _loop(TrainConfig("seeded", (seeded,)), tmp_path)
    loop.run()
    weights = _weights(loop)
    assert torch.equal(weights["block1.conv_sq.0.weight"], weights["block0.conv_sq.0.weight"])
    torch.testing.assert_close(weights["block1.lastconv.weight"], 0.05 * weights["block0.lastconv.weight"])


def test_steps_lower_the_loss_of_the_batch_they_see(tmp_path: Path) -> None:
    """Ten steps on one and the same batch, by the loop's own optimizers."""
    phase = Phase("a", 10, size=64, batch=2, blocks=(0,), synthetic=1.0, shift=4.0, warm_up=1, learning_rate=3e-3)
    plan = TrainConfig("learns", (phase,), network="tiny")
    lines: list[str] = []
    _SameBatch.batch = Batches([], CPU, 0).make(0, phase)
    torch.manual_seed(0)
    options = RunOptions(log_every=1, say=lines.append)
    Loop(plan, DMVFN(ModelConfig.tiny()), _SameBatch([], CPU, 0), tmp_path, Rank(), options).run()
    losses = [float(row["loss"]) for row in _rows(tmp_path)]
    assert losses[-1] < 0.98 * losses[0]


class _SameBatch(Batches):
    batch: Batch

    def make(self, step: int, phase: Phase) -> Batch:
        return self.batch
