"""The pass that warps a frame by two motions reads it as OpenCV does, and a warp's softness is measured alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from model.mixing import warping
from model.motion import field
from model.motion.field import Floats, Pixels

SIZES = [(1, 1), (1, 2), (2, 1), (3, 1), (1, 5), (7, 1), (2, 2), (16, 24), (33, 15), (62, 100)]


def _frame(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _warped(motion: Floats, frame: Pixels, rounds: int = 1) -> tuple[Floats, Pixels, Pixels]:
    projected, carried = np.empty_like(frame), np.empty_like(frame)
    return warping.warp(motion, frame, rounds, projected, carried), projected, carried


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_frame_is_read_along_both_motions_as_opencv_reads_it(
    height: int, width: int, rounds: int, threads: int
) -> None:
    frame, motion = _frame(height, width), np.random.default_rng(1).normal(0, 3, (height, width, 2)).astype(np.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        flow, projected, carried = _warped(motion, frame, rounds)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(carried, field.sample(frame, motion).reshape(frame.shape))
    assert np.array_equal(projected, field.sample(frame, flow).reshape(frame.shape))
    # A place between two 32nds of a pixel may be rounded otherwise in the second round.
    expected = field.project(motion, rounds).reshape(motion.shape)
    assert np.median(np.abs(flow - expected)) < 1e-6
    if rounds == 1:
        assert np.abs(flow - expected).max() < 1e-5


@pytest.mark.parametrize("far", [1e9, -1e9, 3e38, np.inf, -np.inf])
def test_motions_that_lead_away_read_the_border(far: float) -> None:
    frame = _frame(9, 12)
    flow, projected, carried = _warped(np.full((9, 12, 2), far, np.float32), frame)
    corner = frame[0, 0] if far < 0 else frame[-1, -1]
    assert np.array_equal(carried, np.broadcast_to(corner, frame.shape))
    assert projected.shape == frame.shape
    assert flow.shape == (9, 12, 2)


def test_a_motion_that_is_no_number_reads_within_the_frame() -> None:
    frame = _frame(9, 12)
    motion = np.zeros((9, 12, 2), np.float32)
    motion[4, 5] = np.nan
    flow, projected, carried = _warped(motion, frame)
    still = np.ones((9, 12), bool)
    still[4, 5] = False
    assert np.array_equal(carried[still], frame[still])
    assert np.array_equal(carried[4, 5], frame[0, 0])
    assert projected.shape == frame.shape
    # Those beside it read it without weight, and are no numbers either: the answer must not pass for a good one.
    assert np.isnan(flow).any()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_detail_is_what_softening_along_rows_takes_from_a_warp(height: int, width: int) -> None:
    previous, current = _frame(height, width), _frame(height, width, 2)
    motion = np.random.default_rng(3).normal(0, 2, (height, width, 2)).astype(np.float32)
    warp = field.sample(previous, motion).reshape(previous.shape)[::4].astype(np.float32)
    detail = warp - cv2.GaussianBlur(warp, (7, 1), 1.0).reshape(warp.shape)
    expected = np.vdot(detail, detail), np.vdot(current[::4] - warp, detail)
    rounding = 255 * 1e-4 * detail.size  # OpenCV's, of levels, where there is no detail
    assert warping.missing_detail(previous, current, motion, 4, 1.0) == pytest.approx(expected, rel=1e-4, abs=rounding)


@pytest.mark.parametrize(("height", "width"), [(9, 1), (16, 24), (33, 15)])
def test_a_flat_frame_has_no_detail_whatever_the_next_one_shows(height: int, width: int) -> None:
    for level in range(0, 256, 15):
        flat = np.full((height, width, 3), level, np.uint8)
        assert warping.missing_detail(
            flat, _frame(height, width), np.zeros((height, width, 2), np.float32), 4, 1.0
        ) == (0, 0)


def test_the_last_row_that_is_looked_at_counts_and_those_between_do_not() -> None:
    previous, current, still = _frame(9, 20), _frame(9, 20, 2), np.zeros((9, 20, 2), np.float32)
    sums = warping.missing_detail(previous, current, still, 4, 1.0)
    between, last = previous.copy(), previous.copy()
    between[[1, 2, 3, 5, 6, 7]] = 0
    last[8] = 0
    assert warping.missing_detail(between, current, still, 4, 1.0) == sums
    assert warping.missing_detail(last, current, still, 4, 1.0) != sums


def test_frames_that_may_not_be_written_to_and_parts_of_frames_are_read() -> None:
    frame = _frame(12, 16)
    frame.flags.writeable = False
    motion = np.full((12, 16, 2), 0.5, np.float32)
    whole = warping.missing_detail(frame, frame, motion, 4, 1.0)
    wide = np.ascontiguousarray(np.concatenate((frame, frame), 1))[:, :16]
    assert warping.missing_detail(wide, wide, np.concatenate((motion, motion), 1)[:, :16], 4, 1.0) == whole
    assert np.array_equal(_warped(motion, frame)[1], _warped(motion, wide)[1])
