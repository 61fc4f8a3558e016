"""A head's training: sources kept apart, samples drawn once, a stopped run goes on as if it had not been."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model import __main__ as entry
from model.cli import train_mixture
from model.mixing import weights
from model.training import mixture_data
from model.training.mixture import HeadLoop, HeadPlan
from model.training.mixture_data import Draw, Folder
from model.training.plan import PlanError
from model.training.training_gap import training_gap
from tests.unit.model.training import pictures

RUN = """
name = "small"
candidates = ["projected", "carried", "still", "soft", "network"]
widths = [4, 4, 4]
steps = 6
batch = 4
preset = "ultrafast"

[held_back]
count = 3
seed = 2
size = 64

[[folders]]
path = "clips"
share = 1.0
network = true
held_back = ["example.org/kept"]

[[draws]]
count = 8
seed = 1
size = 64
crops = 2
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two sources, a run file, and the samples drawn from them."""
    root = tmp_path_factory.mktemp("mixture")
    rows = ["file,source_repo,source_path"]
    for name, source in (("a.mp4", "shared"), ("b.mp4", "kept")):
        (root / "clips").mkdir(exist_ok=True)
        pictures.write_video(root / "clips" / name, pictures.sliding(8, 80, 96, 2.5))
        rows.append(f"{name},example.org,{source}/{name}")
    (root / "clips" / "manifest.csv").write_text("\n".join(rows) + "\n")
    (root / "run.toml").write_text(RUN)
    again = ["train-head", str(root / "run.toml"), "--data", str(root), "--out", str(root / "out")]
    assert entry.main(again) == 0
    return root


def _plan(root: Path) -> HeadPlan:
    return train_mixture.read(root / "run.toml", root)


def _stores(root: Path) -> list[mixture_data.Store]:
    return [mixture_data.load(next((root / "out").glob(f"{kind}-*"))) for kind in ("drawn", "held-back")]


def test_sources_kept_back_are_never_drawn(root: Path) -> None:
    drawn, held_back = _stores(root)
    assert set(drawn.clip) == {"a.mp4"}
    assert set(held_back.clip) == {"b.mp4"}
    assert drawn.candidates == ("projected", "carried", "still", "soft", "network")
    assert drawn.frames.shape == (8, 5, 64, 64, 3)


def test_stored_candidates_fit_their_target(root: Path) -> None:
    drawn, _ = _stores(root)
    frames, target, flow, network = drawn.batch(np.arange(8))
    still = (frames[:, drawn.candidates.index("still")] - target).abs().mean()
    assert (frames[:, 0] - target).abs().mean() < 0.6 * still
    assert network.all()
    assert flow.shape == (8, 2, 64, 64)


def test_the_run_leaves_a_head_that_loads_and_a_curve(root: Path) -> None:
    head, about = weights.load(root / "out" / "head.safetensors")
    assert (about.preset, head.config.widths) == ("ultrafast", (4, 4, 4))
    assert {"psnr", "psnr_carried", "psnr_mean", "psnr_network"} <= set(about.scores)
    assert (root / "out" / "curve.csv").read_text().startswith("step,psnr")


def test_a_stopped_run_goes_on_as_if_it_had_not_been(root: Path, tmp_path: Path) -> None:
    plan = _plan(root)
    drawn, held_back = _stores(root)
    for out in ("whole", "parts"):
        (tmp_path / out).mkdir()
    whole = HeadLoop(plan, [drawn], held_back, tmp_path / "whole")
    whole.run(1e9, say=lambda line: None)
    first = HeadLoop(plan, [drawn], held_back, tmp_path / "parts")
    while first.step < 3:
        first._advance()
    first.run(0.0)
    second = HeadLoop(plan, [drawn], held_back, tmp_path / "parts")
    assert second.step == 3
    second.run(1e9, say=lambda line: None)
    assert second.scores() == pytest.approx(whole.scores(), abs=1e-6)


def test_training_gains_on_what_it_sees(root: Path, tmp_path: Path) -> None:
    drawn, _ = _stores(root)
    plan = dataclasses.replace(_plan(root), steps=40, rate=5e-3)
    torch.manual_seed(0)
    loop = HeadLoop(plan, [drawn], drawn, tmp_path)
    before = loop.scores()["psnr"]
    loop.run(1e9, say=lambda line: None)
    assert loop.scores()["psnr"] > before + 0.1


@pytest.mark.parametrize(
    "text", ["", "name = 3", RUN.replace("share", "shares"), RUN + "[[draws]]\ncounts = 1", RUN.replace("name", "nam")]
)
def test_what_is_no_run_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(PlanError, match=r"run\.toml"):
        train_mixture.read(tmp_path / "run.toml", tmp_path)
    assert entry.main(["train-head", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "error" in capsys.readouterr().err


def test_the_shipped_runs_can_be_read() -> None:
    for name in ("head", "head-cool", "head-live", "head-wide"):
        plan = train_mixture.read(train_mixture.RUNS / f"{name}.toml", Path("data"))
        assert plan.folders[0] == Folder("data/train", 0.5, False, plan.folders[0].held_back, plan.folders[0].rarely)
        assert plan.draws[0].size == Draw(1, 1).size


def test_a_run_can_go_on_from_another_head(root: Path, tmp_path: Path) -> None:
    drawn, held_back = _stores(root)
    plan = dataclasses.replace(_plan(root), name="on", init=str(root / "out" / "head.safetensors"))
    (tmp_path / "on").mkdir()
    begun = HeadLoop(plan, [drawn], held_back, tmp_path / "on").scores()
    _, about = weights.load(root / "out" / "head.safetensors")
    assert begun["psnr"] == pytest.approx(about.scores["psnr"], abs=1e-3)


def test_samples_can_be_made_up_scenes(root: Path, tmp_path: Path) -> None:
    store = train_mixture._store(tmp_path, _plan(root), Draw(5, 3, 64, 3, scenes=True), held_back=False)
    assert set(store.clip) == {"a scene"}
    assert not store.network.any()
    frames, target, flow, _ = store.batch(np.arange(5))
    assert float(flow.abs().max()) > 0.1
    assert (frames[:, 0] - target).abs().mean() < (frames[:, store.candidates.index("still")] - target).abs().mean()


def test_samples_drawn_without_a_candidate_are_refused(root: Path) -> None:
    plan = dataclasses.replace(_plan(root), candidates=("projected", "older", "soft"))
    with pytest.raises(PlanError, match="drawn without older"):
        train_mixture._store(root / "out", plan, plan.draws[0], held_back=False)


def test_a_draw_can_run_backwards_and_shrink(root: Path, tmp_path: Path) -> None:
    """The clips slide to the left; backwards they slide to the right, and half as far at half the size."""
    plan = dataclasses.replace(_plan(root), candidates=("projected", "soft"))
    draw = Draw(12, 3, 40, 1, sizes=(0.5,), size_shares=(1.0,), still=1.0, backwards=True)
    flow = train_mixture._store(tmp_path, plan, draw, held_back=False).flow[..., 0].astype(float).mean((1, 2))
    assert set(np.sign(flow)) == {-1, 1}
    speeds = np.abs(flow) / 2.5 * 2
    assert np.median(np.abs(speeds - np.round(speeds))) < 0.1


def test_a_run_can_be_trained_on_the_crispness_it_ships(root: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(
        _plan(root), candidates=("projected", "carried", "still", "soft"), crispness=1.0, trained_crisp=True
    )
    held_back = train_mixture._store(tmp_path, plan, plan.held_back, held_back=True)
    assert held_back.candidates[-1] == "crisp"
    sharp = HeadLoop(plan, [held_back], held_back, tmp_path).scores()["sharpness"]
    plain = HeadLoop(dataclasses.replace(plan, trained_crisp=False), [held_back], held_back, tmp_path).scores()
    assert sharp > plain["sharpness"]


def test_the_training_gap_is_nothing_where_both_kinds_are_the_same_and_all_where_one_is_perfect(root: Path) -> None:
    drawn, _ = _stores(root)
    head, _ = weights.load(root / "out" / "head.safetensors")
    gains = training_gap(head, [drawn], drawn)
    assert gains.trained == pytest.approx(gains.kept_back, abs=1e-5)
    # Of samples whose target is the head's own answer, it has nothing left to gain.
    frames, _, flow, _ = drawn.batch(np.arange(8))
    frames = frames[:, [drawn.candidates.index(name) for name in head.config.candidates]]
    with torch.inference_mode():
        answers = head(frames, flow, torch.tensor([[True] * 4 + [False]] * 8)).frame.clamp(0, 1)
    perfect = dataclasses.replace(drawn, target=(answers * 255).round().byte().permute(0, 2, 3, 1).numpy())
    other = training_gap(head, [perfect], drawn)
    assert other.trained > other.kept_back + 5
    far = dataclasses.replace(drawn, flow=drawn.flow + np.float16(30))
    with pytest.raises(ValueError, match="no motion in common"):
        training_gap(head, [far], drawn)
