"""A prediction at a part of the size: what is coarse is the head's, what is fine is the whole frame's, moved once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.mixing import predictor, reduced, weights
from model.motion import field

SCALES = (0.5, 0.25)
HEAD, ABOUT = weights.load(weights.LIVE)


def noise(height: int, width: int, sigma: float = 0.7) -> NDArray[np.uint8]:
    """Fine texture that repeats from border to border: nothing of it is left at half the size."""
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    tiled = cv2.GaussianBlur(np.tile(values, (3, 3, 1)), (0, 0), sigma)
    return np.ascontiguousarray(tiled[height : 2 * height, width : 2 * width])


def moving(step: int, count: int = 3, height: int = 96, width: int = 128) -> list[NDArray[np.uint8]]:
    """Coarse shapes with fine texture on them, that move by whole pixels a frame."""
    picture = cv2.addWeighted(noise(height, width, 6.0), 3.0, noise(height, width), 0.6, -330)
    return [np.ascontiguousarray(np.roll(picture, step * k, 1)) for k in range(count)]


def refined(frame: NDArray[np.uint8], maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What the loops and the warp between them make of a whole frame."""
    return reduced._refined(frame, maps, 1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 24), (33, 15), (62, 100)])
def test_the_loops_equal_opencvs_enlarging_and_warping(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (height, width, 3), np.uint8)
    low = -(-height // 2), -(-width // 2)
    maps = rng.normal(0, 2, (6, *low)).astype(np.float32)
    maps[2], maps[3:] = 0.8 + 0.2 * maps[2], 20 * maps[3:]
    wide = np.stack([cv2.resize(one, (2 * low[1], 2 * low[0]))[:height, :width] for one in maps])
    warped = field.sample(frame, np.ascontiguousarray(wide[:2].transpose(1, 2, 0))).reshape(height, width, 3)
    expected = (warped * wide[2][..., None] + wide[3:].transpose(1, 2, 0)).clip(0, 255)
    answer = refined(frame, maps)
    # A place between two 32nds of a pixel may be rounded either way.
    assert np.abs(answer - expected).mean() < 0.6
    assert np.median(np.abs(answer - expected)) <= 0.5 + 1e-3
    maps[:3], maps[3:] = np.array([0, 0, 1], np.float32)[:, None, None], 0
    assert np.array_equal(refined(frame, maps), frame), "without motion and change it is the frame itself"
    for flow in (1e9, -1e9, np.nan):
        maps[:2] = flow
        assert refined(frame, maps).shape == frame.shape, "places far away are those at the border"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (16, 24), (33, 15), (35, 64), (130, 201)])
def test_one_pass_answers_as_mixing_reading_and_refining_one_after_the_other(
    height: int, width: int, threads: int
) -> None:
    rng = np.random.default_rng(3)
    low, names = (-(-height // 2), -(-width // 2)), HEAD.config.candidates
    current = rng.integers(0, 256, (height, width, 3), np.uint8)
    flow, other_flow = (rng.normal(0, 3, (*low, 2)).astype(np.float32) for _ in range(2))
    padded = tuple(-(-side // 8) * 4 for side in low)
    weighed = rng.dirichlet(np.ones(len(names)), padded).transpose(2, 0, 1)
    shares = np.ascontiguousarray(np.concatenate((weighed, rng.normal(0, 0.3, (1, *padded)))), np.float32)
    frames = rng.integers(0, 256, (len(names), *low, 3), np.uint8)
    parts = reduced._Parts(frames, names, reduced._reduced(current, 2), (flow, other_flow), shares)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pixels, total, levels = reduced._answered(parts, current)
    finally:
        torch.set_num_threads(before)
    expected, expected_total, expected_levels = reduced._enlarged(parts, current, 1)
    assert np.array_equal(pixels, expected)
    assert np.array_equal(levels, expected_levels)
    assert total == pytest.approx(expected_total, rel=1e-5, abs=1e-2)


def test_shares_follow_the_candidates_that_there_are() -> None:
    shares = np.arange(4 * 6, dtype=np.float32).reshape(4, 2, 3)
    assert reduced._in_order(shares, ("a", "b", "c"), ("a", "b", "c")) is shares
    assert np.array_equal(reduced._in_order(shares, ("a", "b", "c"), ("c", "a")), shares[[2, 0, 3]])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [(1, 1), (5, 70), (16, 16), (33, 15), (66, 98)])
def test_frames_of_any_size_are_answered(size: tuple[int, int], scale: float) -> None:
    frame = np.full((*size, 3), 90, np.uint8)
    answer = reduced.mix(frame, frame, HEAD, ABOUT, scale)
    assert answer.pixels.dtype == np.uint8
    assert (answer.pixels.shape, answer.flow.shape) == ((*size, 3), (*size, 2))
    assert np.abs(answer.pixels.astype(int) - 90).max() <= 1
    assert np.abs(answer.frame - answer.pixels / 255).max() < 1e-6
    assert answer.is_finite
    assert sum(answer.report.shares.values()) == pytest.approx(1, abs=1e-3)
    assert 0 < answer.report.macs < predictor.macs(HEAD, 128, 128)


def test_fine_texture_moves_whole_though_it_is_not_there_at_half_the_size() -> None:
    previous, current, target = moving(4)
    answer = reduced.mix(previous, current, HEAD, ABOUT, 0.5)
    first, second = (reduced._reduced(frame, 2) for frame in (previous, current))
    only_coarse = cv2.resize(predictor.mix(first, second, None, HEAD, ABOUT).pixels, (128, 96))
    inner = np.s_[8:-8, 16:-16]
    assert np.median(answer.flow[inner][..., 0]) == pytest.approx(-4, abs=0.2)
    energy, coarse, true = (
        float(cv2.Laplacian(frame, cv2.CV_32F)[inner].var()) for frame in (answer.pixels, only_coarse, target)
    )
    assert coarse < 0.3 * true < energy < 1.5 * true
    errors = [np.square(frame.astype(float) - target)[inner].mean() for frame in (answer.pixels, only_coarse, current)]
    assert errors[0] < 0.7 * min(errors[1:])


def test_frames_further_on_follow_the_motion_found_once() -> None:
    previous, current, *targets = moving(4, 4)
    first = reduced.mix(previous, current, HEAD, ABOUT, 0.5)
    second = reduced.mix(previous, current, HEAD, ABOUT, 0.5, 2, first.motions)
    assert second.motions is first.motions
    inner = np.s_[8:-8, 24:-24]
    assert np.median(second.flow[inner][..., 0]) == pytest.approx(-8, abs=0.4)
    for answer, target in zip((first, second), targets, strict=True):
        error = np.abs(answer.pixels.astype(float) - target)[inner].mean()
        assert error < 0.5 * np.abs(current.astype(float) - target)[inner].mean()


def test_what_is_not_finite_is_told_and_frames_that_differ_are_refused() -> None:
    previous, current, _ = moving(2)
    broken, about = weights.load(weights.LIVE)
    with torch.no_grad():
        broken.leave.weight.fill_(float("nan"))
    assert not reduced.mix(previous, current, broken, about, 0.5).is_finite
    with pytest.raises(ValueError, match="one size"):
        reduced.mix(previous, current[:-1], HEAD, ABOUT, 0.5)
    with pytest.raises(KeyError):
        reduced.mix(previous, current, HEAD, ABOUT, 0.3)
