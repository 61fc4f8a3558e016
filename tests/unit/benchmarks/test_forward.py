"""The network's benchmark in small: contenders agree, every turn is counted."""

from __future__ import annotations

import argparse
import time

import pytest

from benchmarks import contenders, forward
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN


@pytest.fixture
def network() -> DMVFN:
    return DMVFN(ModelConfig.tiny()).eval()


def test_every_contender_is_timed(network: DMVFN, capsys: pytest.CaptureFixture[str]) -> None:
    best = forward.compare(network, 32, 48, 0.0, time.perf_counter, ())
    assert set(best) == {"published", "ours", "ours, typical route", "plain torch"}
    assert all(0 < seconds < 60 for seconds in best.values())
    differs = float(capsys.readouterr().out.split()[-1])
    assert differs < 1e-4


def test_runtimes_agree_or_are_left_out_with_a_sentence(network: DMVFN, capsys: pytest.CaptureFixture[str]) -> None:
    """CI has none of these three; where one is installed its answer is compared."""
    pair = forward.frames(network, 32, 48)
    runs = contenders.others(network, *pair, 1, ("openvino", "ncnn", "mnn"))
    printed = capsys.readouterr().out
    expected = contenders.published(network, *pair)()
    for name in ("OpenVINO", "ncnn", "MNN"):
        assert (name in runs) != (f"{name} is not installed" in printed)
        assert name not in runs or float((runs[name]() - expected).abs().max()) < 1e-4


@pytest.mark.parametrize(("dtype", "against"), [("float32", ["openvino", "ncnn"]), ("bfloat16", ["openvino"])])
def test_only_runtimes_that_have_the_type_are_compared(
    dtype: str, against: list[str], monkeypatch: pytest.MonkeyPatch, network: DMVFN
) -> None:
    asked: list[list[str]] = []

    def compare(*arguments: object) -> dict[str, float]:
        asked.append(list(arguments[-1]))  # type: ignore[call-overload]  # words
        return {"published": 1.0, "ours": 1.0}

    monkeypatch.setattr(forward, "compare", compare)
    monkeypatch.setattr(forward, "mixed", lambda *_: [])
    words = ["openvino", "ncnn"]
    arguments = argparse.Namespace(
        device="cpu", dtype=dtype, threads=1, cpu_time=False, sizes=["32x48"], against=words, seconds=0, plot=None
    )
    forward.tables(network, arguments, time.perf_counter)
    assert asked == [against]


def test_the_mixed_curve_goes_from_four_blocks_to_all(network: DMVFN) -> None:
    curve = forward.mixed(network, 32, 48, 0.0, time.perf_counter)
    assert [blocks for blocks, _ in curve] == [4, 8, 12, 16, 20, 24, 28, 36]
