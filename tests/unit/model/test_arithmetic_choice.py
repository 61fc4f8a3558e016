"""Heads run in what a measurement says is quickest on a processor; it is made once and kept beside compiled loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from model.inference.cpu import compiler, precision
from model.inference.cpu.precision import Arithmetic
from model.mixing import arithmetic_choice, predictor, weights
from model.mixing.arithmetic_choice import better, kept

ALL = tuple(Arithmetic)


class _Planted:
    """A measurement that says what it is told to, and counts how often it is made."""

    def __init__(self, *seconds: float) -> None:
        self._seconds, self.made = seconds, 0

    def __call__(self, kinds: Sequence[Arithmetic]) -> Mapping[Arithmetic, float]:
        self.made += 1
        return dict(zip(kinds, self._seconds, strict=True))


@pytest.mark.parametrize(
    ("seconds", "choice"),
    [
        ((3.0, 2.0, 1.0), Arithmetic.AMX),
        ((3.0, 2.0), Arithmetic.AVX512),  # Zen 4
        ((3.0, 4.0), Arithmetic.FLOAT32),  # Cooper Lake, or no permission for AMX
        ((3.0, 4.0, 5.0), Arithmetic.FLOAT32),
        ((3.0, 2.9), Arithmetic.FLOAT32),  # not worth a rounded answer
    ],
)
def test_the_quickest_is_chosen_and_float32_unless_it_is_worth_it(seconds: Sequence[float], choice: Arithmetic) -> None:
    assert better(dict(zip(ALL, seconds, strict=False))) is choice


def test_a_choice_is_measured_once_and_kept_in_the_folder(tmp_path: Path) -> None:
    measure = _Planted(3.0, 4.0, 1.0)
    assert [kept(tmp_path, ALL, measure) for _ in range(3)] == [Arithmetic.AMX] * 3
    assert measure.made == 1
    assert [file.read_text() for file in tmp_path.iterdir()] == ["bfloat16 by AMX\n"]


def test_another_processor_measures_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(tmp_path, ALL, _Planted(3.0, 4.0, 1.0)) is Arithmetic.AMX
    # One that refuses AMX, with the same folder; then one for which other loops are compiled.
    assert kept(tmp_path, ALL[:2], _Planted(3.0, 4.0)) is Arithmetic.FLOAT32
    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64-v4")
    assert kept(tmp_path, ALL, _Planted(3.0, 1.0, 2.0)) is Arithmetic.AVX512
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("text", ["", "bfloat16 by abacus\n", "float32"])
def test_a_file_that_names_nothing_usable_is_measured_anew(text: str, tmp_path: Path) -> None:
    measure = _Planted(3.0, 1.0)
    kept(tmp_path, ALL[:2], measure)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert kept(tmp_path, ALL[:2], measure) is (Arithmetic.FLOAT32 if text == "float32" else Arithmetic.AVX512)
    assert measure.made == (1 if text == "float32" else 2)


@pytest.mark.parametrize("folder", [None, Path("/proc/nowhere")])
def test_where_nothing_can_be_kept_a_choice_is_made_all_the_same(folder: Path | None) -> None:
    assert kept(folder, ALL, _Planted(3.0, 1.0, 2.0)) is Arithmetic.AVX512


def test_float32_alone_is_not_measured(tmp_path: Path) -> None:
    measure = _Planted()
    assert kept(tmp_path, ALL[:1], measure) is Arithmetic.FLOAT32
    assert measure.made == 0


def test_a_measurement_times_each_in_turn_and_leaves_the_threads_as_they_were() -> None:
    ticks = iter(range(1000))
    kinds = precision.usable()
    seconds = arithmetic_choice.measured(kinds, clock=lambda: float(next(ticks)))
    assert seconds == dict.fromkeys(kinds, 1.0)
    assert next(ticks) == 2 * len(kinds) * (arithmetic_choice.TURNS + 1)
    assert compiler.use_threads(10**6) >= torch.get_num_threads()


@pytest.mark.parametrize("choice", precision.usable())
def test_a_head_runs_in_what_was_chosen(choice: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    head = weights.load(weights.LIVE)[0]
    noise = np.random.default_rng(0)
    frames = noise.integers(0, 256, (len(head.config.candidates), 16, 24, 3), np.uint8)
    flow = noise.normal(0, 2, (16, 24, 2)).astype(np.float32)
    monkeypatch.setattr(arithmetic_choice, "quickest", lambda: choice)
    usual = predictor.weigh(head, head.config.candidates, frames, flow).frame
    asked = predictor.weigh(head, head.config.candidates, frames, flow, arithmetic=choice).frame
    assert np.array_equal(usual, asked)
