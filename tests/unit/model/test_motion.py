"""Every estimator finds known translations, rotations and zooms, within the error stated for it."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model import checkpoint
from model.motion import field
from model.motion.classical import DenseInverseSearch, Farneback
from model.motion.field import MotionEstimator, MotionField
from model.motion.network import NetworkMotion
from model.motion.previous import PreviousMotion
from model.motion.still import Still

HEIGHT, WIDTH, BORDER = 112, 144, 24
_CENTRE = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])


def _affine(degrees: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """3x3 about the centre of the frame: where a point of one frame is in the next."""
    angle = math.radians(degrees)
    turn = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, _CENTRE - turn @ _CENTRE + shift
    return matrix


MOTIONS = {
    "none": _affine(),
    "a translation": _affine(shift=(2.5, -1.5)),
    "a fast translation": _affine(shift=(-6.0, 4.0)),
    "a rotation": _affine(degrees=2.0),
    "a zoom": _affine(zoom=1.03),
    "all of them": _affine(-1.0, 0.98, (1.5, 2.0)),
}


@functools.cache
def _scene() -> NDArray[np.uint8]:
    """A texture with detail at every scale."""
    rng = np.random.default_rng(5)
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for size in (4, 8, 16, 32, 64):
        total += cv2.resize(rng.normal(0, 1, (size, size, 3)).astype(np.float32), (WIDTH, HEIGHT), interpolation=2) / 2
    return (total * 28 + 128).clip(0, 255).astype(np.uint8)


def _frames(motion: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """Older and current frame: the target is the scene itself."""
    found = []
    for steps in (2, 1):
        back = np.linalg.matrix_power(np.linalg.inv(motion), steps)
        moved = cv2.warpAffine(_scene(), back[:2], (WIDTH, HEIGHT), None, cv2.INTER_CUBIC, cv2.BORDER_REFLECT)
        found.append(np.asarray(moved, np.uint8))
    return found


def _known(motion: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Exact flow HxWx2 from the target to the frame so many steps back."""
    y, x = np.indices((HEIGHT, WIDTH), float)
    back = np.linalg.matrix_power(np.linalg.inv(motion), steps)
    return np.stack([back[k, 0] * x + back[k, 1] * y + back[k, 2] - (x, y)[k] for k in range(2)], -1)


def _error(found: MotionField, motion: NDArray[np.float64]) -> float:
    """Mean pixels from the exact flow to the current frame, and half of that to the previous, off the border."""
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    current = np.hypot(*np.moveaxis(found.current - _known(motion, 1), 2, 0))[inner].mean()
    previous = np.hypot(*np.moveaxis(found.previous - _known(motion, 2), 2, 0))[inner].mean() / 2
    return float(max(current, previous))


#: Estimators and the mean error in pixels that they stay below on this scene.
ESTIMATORS: list[tuple[MotionEstimator, float]] = [
    (DenseInverseSearch("medium"), 0.15),
    (DenseInverseSearch("lean"), 0.15),
    (DenseInverseSearch("sparse"), 0.15),
    (DenseInverseSearch("fast"), 0.2),
    (DenseInverseSearch("ultrafast"), 0.3),
    (DenseInverseSearch("medium", rounds=0), 0.15),
    (Farneback(), 0.15),
    (Farneback(shrink=2), 0.2),
]


@pytest.mark.parametrize("motion", list(MOTIONS))
@pytest.mark.parametrize(("estimator", "limit"), ESTIMATORS, ids=lambda value: getattr(value, "name", None))
def test_classical_estimators_find_known_motion(estimator: MotionEstimator, limit: float, motion: str) -> None:
    found = estimator(*_frames(MOTIONS[motion]))
    assert _error(found, MOTIONS[motion]) < limit
    inner = found.confidence[BORDER:-BORDER, BORDER:-BORDER]
    assert inner.mean() > 0.7
    assert float(found.confidence.min()) >= 0
    assert float(found.confidence.max()) <= 1


def test_sparse_patches_at_half_size_follow_small_things_better_than_fast_does() -> None:
    """Eight squares of 20 pixels cross a background, two pixels a frame, by turns to the left and to the right."""
    rng = np.random.default_rng(0)
    sizes = [(128, 192)] + [(20, 20)] * 8
    background, *squares = (cv2.GaussianBlur(rng.integers(0, 256, (*s, 3), np.uint8), (0, 0), 1.5) for s in sizes)
    frames = []
    for time in range(3):
        frame = background.copy()
        for number, square in enumerate(squares):
            y, x = 14 + 60 * (number // 4), 16 + 42 * (number % 4) + (2 if number % 2 else -2) * time
            frame[y : y + 20, x : x + 20] = square
        frames.append(np.asarray(frame, np.uint8))
    previous, current, following = frames
    fast, sparse = (
        field.sample(current, DenseInverseSearch(preset)(previous, current).current) - following.astype(float)
        for preset in ("fast", "sparse")
    )
    assert np.square(sparse).mean() < 0.7 * np.square(fast).mean()


@pytest.mark.parametrize(("scale", "limit"), [(1.0, 0.2), (0.5, 0.5)])
@pytest.mark.parametrize("motion", ["none", "a translation", "a rotation", "a zoom"])
def test_the_shipped_network_finds_slow_motion(motion: str, scale: float, limit: float) -> None:
    found = NetworkMotion(checkpoint.load(), scale=scale)(*_frames(MOTIONS[motion]))
    current = np.hypot(*np.moveaxis(found.current - _known(MOTIONS[motion], 1), 2, 0))
    assert current[BORDER:-BORDER, BORDER:-BORDER].mean() < limit
    assert found.current.shape == found.previous.shape == (HEIGHT, WIDTH, 2)


def test_projection_puts_a_smooth_flow_where_its_surface_arrives() -> None:
    y, x = np.indices((60, 80), np.float32)
    carried = np.stack([-6 * np.exp(-((x - 30) ** 2 + (y - 30) ** 2) / 400), np.zeros_like(x)], -1).astype(np.float32)
    # What arrives at x left from x + u(x), and moved there by the flow at that place.
    gaps = [np.abs(flow - field.sample(carried, flow)).max() for flow in (carried, field.project(carried, 4))]
    assert gaps[0] > 0.5
    assert gaps[1] < 0.05
    assert np.array_equal(field.project(carried, 0), carried)


def test_the_motion_before_goes_on_with_a_steady_translation() -> None:
    motion = MOTIONS["a translation"]
    frames = _frames(motion)
    before = DenseInverseSearch()(*frames)
    assert _error(PreviousMotion(before)(*frames), motion) < 0.15
    with pytest.raises(ValueError, match="expected"):
        PreviousMotion(before)(frames[0][:50], frames[1][:50])


def test_still_is_sure_only_where_nothing_changes() -> None:
    previous, current = _frames(MOTIONS["none"])
    assert Still()(previous, current).confidence.min() == 1
    moved = Still()(*_frames(MOTIONS["a fast translation"]))
    assert moved.confidence.mean() < 0.6
    assert not moved.current.any()


@pytest.mark.parametrize("size", [(1, 1), (8, 40), (15, 15), (17, 16)])
def test_small_frames_get_an_answer(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 90, np.uint8)
    for estimator in (DenseInverseSearch("ultrafast"), DenseInverseSearch(), Still()):
        assert estimator(frame, frame).current.shape == (*size, 2)


@pytest.mark.parametrize(
    "other", [np.zeros((9, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)]
)
def test_frames_that_do_not_fit_are_refused(other: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="one size"):
        DenseInverseSearch()(np.zeros((8, 8, 3), np.uint8), other)


def test_places_of_some_rows_are_those_rows_of_all_places() -> None:
    flow = np.random.default_rng(3).normal(0, 3, (19, 23, 2)).astype(np.float32)
    some, whole = field.places(flow, 4), field.places(flow)
    assert np.array_equal(some.whole, whole.whole[::4])
    assert np.array_equal(some.parts, whole.parts[::4])
