"""Which frames of a clip can be trained on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.training.filters import ClipVerdict, judge


def _moving(count: int, offset: int = 0) -> NDArray[np.uint8]:
    """A soft wave that slides by two pixels a frame."""
    y, x = np.indices((64, 64))
    waves = [np.sin((x + 2 * i) / 9 + offset) + np.cos(y / 7 + offset) for i in range(count)]
    levels = (np.stack(waves) * 40 + 100).astype(np.uint8)
    return np.repeat(levels[..., None], 3, -1)


def test_a_cut_is_found() -> None:
    clip = np.concatenate([_moving(6), 255 - _moving(6, offset=2)])
    assert judge(clip).cuts == {6}


def test_a_repeated_frame_is_found() -> None:
    clip = _moving(6)[[0, 1, 2, 2, 3, 4]]
    verdict = judge(clip)
    assert (verdict.duplicates, verdict.cuts, verdict.still) == (frozenset({3}), frozenset(), False)


@pytest.mark.parametrize("count", [1, 5])
def test_a_still_clip_gives_no_triples(count: int) -> None:
    verdict = judge(np.repeat(_moving(1), count, 0))
    assert verdict.still
    assert verdict.starts(count, 1) == ()


def test_triples_avoid_cuts_duplicates_and_irregular_steps() -> None:
    assert ClipVerdict().starts(5, 1) == (0, 1, 2)
    assert ClipVerdict().starts(5, 2) == (0,)
    assert ClipVerdict(cuts=frozenset({3})).starts(6, 1) == (0, 3)
    assert ClipVerdict(duplicates=frozenset({1})).starts(5, 1) == (1, 2)
    assert ClipVerdict(irregular=frozenset({4})).starts(5, 1) == (0, 1)


def test_two_verdicts_join() -> None:
    a, b = ClipVerdict(cuts=frozenset({1}), typical=2.0), ClipVerdict(duplicates=frozenset({2}), still=True)
    assert a.joined(b) == ClipVerdict(frozenset({1}), frozenset({2}), frozenset(), True, 2.0)
