"""The live frame's benchmark: its still camera is still, and every way answers its pair."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import clips, live_frame


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_still_cameras_pair_is_equal_but_for_one_block_of_the_share_asked_for(share: float) -> None:
    pair = clips.pair(180, 320)
    older, newer = live_frame.still(pair, share)
    assert np.array_equal(older, pair[0])
    differs, moves = (older != newer).any(2), (pair[0] != pair[1]).any(2)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    block = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert differs[block].size / differs.size == pytest.approx(share, rel=0.1)
    assert np.array_equal(differs[block], moves[block])


def test_the_fastest_turn_counts_and_the_first_is_told_apart() -> None:
    measured = live_frame.Measured()
    for wall, processor in ((30.0, 20.0), (10.0, 9.0), (12.0, 8.0)):
        measured.add(wall, processor)
    assert (measured.first, measured.wall, measured.processor) == (30.0, 10.0, 8.0)
