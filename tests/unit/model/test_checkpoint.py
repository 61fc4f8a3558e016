"""Weights come back as they were written, published files load unchanged, and bad files are named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from model import checkpoint
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.mixing import weights
from model.mixing.head import HeadConfig, MixingHead
from tests.golden import vectors


def test_our_format_keeps_weights_and_metadata(tiny_network: DMVFN, tmp_path: Path) -> None:
    about = checkpoint.Metadata("1.2", "BGR", "clips we made", {"psnr_t1": 27.5}, ModelConfig.tiny())
    checkpoint.save(tiny_network, tmp_path / "w.safetensors", about)
    loaded = checkpoint.load(tmp_path / "w.safetensors")
    assert checkpoint.metadata(loaded) == about
    assert not loaded.training
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_whoever_the_umask_lets_may_read_a_file(tiny_network: DMVFN, tmp_path: Path) -> None:
    """Weights are written by one user and served by another, as in a container."""
    head = MixingHead(HeadConfig(("projected", "soft"), (4, 8, 8)))
    checkpoint.save(tiny_network, tmp_path / "w.safetensors", checkpoint.Metadata())
    weights.save(tmp_path / "h.safetensors", head, weights.HeadMetadata(head.config))
    (tmp_path / "usual").write_bytes(b"")
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_half_precision_files_load_as_float32(tiny_network: DMVFN, tmp_path: Path) -> None:
    checkpoint.save(tiny_network, tmp_path / "w.safetensors", checkpoint.Metadata(), torch.float16)
    loaded = checkpoint.load(tmp_path / "w.safetensors").state_dict()
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(loaded[name], value.half().float())


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_published_pickles_load_and_want_bgr(prefix: str, tmp_path: Path) -> None:
    published = {prefix + name: value for name, value in vectors.network().state_dict().items()}
    torch.save(published, tmp_path / "dmvfn_city.pkl")
    loaded = checkpoint.load(tmp_path / "dmvfn_city.pkl")
    assert checkpoint.metadata(loaded).colour_order == "BGR"
    assert checkpoint.metadata(loaded).version == "dmvfn_city"
    assert torch.equal(loaded.block(8).lastconv.weight, published[prefix + "block8.lastconv.weight"])


def test_the_callers_colour_order_wins(tmp_path: Path) -> None:
    torch.save(vectors.network().state_dict(), tmp_path / "w.pth")
    assert checkpoint.metadata(checkpoint.load(tmp_path / "w.pth", "RGB")).colour_order == "RGB"


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("should-not-exist"),))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"block0": _Evil()}, protocol=2))
    with pytest.raises(checkpoint.CheckpointError, match=r"w\.pkl"):
        checkpoint.load(tmp_path / "w.pkl")
    assert not Path("should-not-exist").exists()


def _broken(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "missing":
        del state["l1.bias"]
    elif how == "shape":
        state["l1.bias"] = torch.zeros(8)
    elif how == "nan":
        state["l1.bias"] = torch.full((9,), torch.nan)
    return state


@pytest.mark.parametrize(
    ("how", "message"), [("missing", "missing .*l1.bias"), ("shape", r"\(8,\), not \(9,\)"), ("nan", "not finite")]
)
def test_weights_that_do_not_fit_are_named(how: str, message: str, tmp_path: Path) -> None:
    torch.save(_broken(DMVFN().state_dict(), how), tmp_path / "w.pth")
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.load(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pkl"])
def test_damaged_and_absent_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="no such file"):
        checkpoint.load(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00" * 40)
    with pytest.raises(checkpoint.CheckpointError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / name)
