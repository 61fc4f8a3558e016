"""Motion carried on to any moment: exact on motions that are known."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.inference import carry as on_device
from model.motion import carry
from model.motion.field import sample

HEIGHT, WIDTH = 48, 64
INSIDE = (slice(20, -20), slice(24, -24))
MOMENTS = (0.25, 0.5, 1.0, 2.7, 5.0)


Floats = NDArray[np.float32]


def floats(values: Any) -> Floats:
    return np.ascontiguousarray(values, np.float32)


def scene(x_shift: float, y_shift: float = 0.0) -> NDArray[np.uint8]:
    """A linear ramp, moved: bilinear sampling of it is exact, so its position can be read off its levels."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    x, y = x - x_shift, y - y_shift
    levels = np.stack((60 + 2 * x, 60 + 2 * y, 120 + x - y), 2)
    return np.asarray(np.clip(levels, 0, 255).round(), np.uint8)


def shown(
    previous: NDArray[np.uint8], current: NDArray[np.uint8], flow: NDArray[np.float32], weight: float, t: float
) -> NDArray[np.uint8]:
    weights = np.full((HEIGHT, WIDTH), weight, np.float32)
    (motion,) = carry.maps(2 * flow, flow, weights, (t,))
    return carry.blended(previous, current, motion, t)


def field(x: float, y: float) -> NDArray[np.float32]:
    return np.broadcast_to(floats([x, y]), (HEIGHT, WIDTH, 2)).copy()


@pytest.mark.parametrize("t", MOMENTS)
def test_a_known_translation_is_where_it_is_at_any_moment(t: float) -> None:
    vx, vy = 1.5, -0.5
    current, flow = scene(vx, vy), field(-vx, -vy)
    (landing,) = carry.landings(flow, (t,))
    offset = landing.offset
    assert np.allclose(offset[INSIDE], floats([-vx * (t - 1), -vy * (t - 1)]), atol=1e-5)
    truth = scene(vx * (1 + t), vy * (1 + t)).astype(int)
    assert np.abs(shown(scene(0), current, flow, 0.0, t).astype(int) - truth)[INSIDE].max() <= 1
    (motion,) = carry.maps(2 * flow, flow, flow[..., 0] * 0 + 0.25, (t,))
    assert np.allclose(motion.values, 0.25)
    assert np.allclose(motion.flow[INSIDE], floats([-vx * (t + 1), -vy * (t + 1), -vx * t, -vy * t]), atol=1e-4)
    ((_, frame),) = carry.corrected(current, flow, floats(sample(current, flow) / 255), (t,))
    assert np.abs(frame.astype(int) - truth)[INSIDE].max() <= 1


def test_both_frames_are_sampled_once_where_they_show_the_same() -> None:
    """Half the previous frame, one interval further back: a translation is exact from both."""
    frame = shown(scene(0), scene(2), field(-2, 0), 0.5, 2.7)
    assert np.abs(frame.astype(int) - scene(2 + 2 * 2.7))[INSIDE].max() <= 1


def test_moments_come_in_any_order_and_each_is_what_it_is_alone() -> None:
    rng = np.random.default_rng(5)
    flow = (rng.standard_normal((HEIGHT, WIDTH, 2)) * 2).astype(np.float32)
    together = {landing.place: landing.offset for landing in carry.landings(flow, (5.0, 0.25, 2.7, 1.0))}
    for index, t in enumerate((5.0, 0.25, 2.7, 1.0)):
        (alone,) = carry.landings(flow, (t,))
        assert np.array_equal(together[index], alone.offset)


def test_a_steady_field_is_followed_from_place_to_place() -> None:
    """A zoom: the motion grows with the distance from the middle, so an interval further is a factor, no sum."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    flow = np.stack(((WIDTH / 2 - x) * 0.1, (HEIGHT / 2 - y) * 0.1), 2)
    (landing,) = carry.landings(flow, (3.0,))
    offset = landing.offset
    assert np.allclose(offset, np.stack(((WIDTH / 2 - x) * 0.19, (HEIGHT / 2 - y) * 0.19), 2), atol=2e-2)


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
def test_an_acceleration_is_not_seen_and_costs_what_is_stated(t: float) -> None:
    """Positions 0, v, then v + t v + a t (t + 1) / 2: the answer is out by the last term."""
    velocity, acceleration = 2.0, 0.5
    frame = shown(scene(0), scene(velocity), field(-velocity, 0), 0.0, t)
    truth = velocity * (1 + t) + acceleration * t * (t + 1) / 2
    missed = (frame[INSIDE][..., 0].astype(float) - scene(truth)[INSIDE][..., 0]) / 2  # two levels a pixel
    assert missed.mean() == pytest.approx(acceleration * t * (t + 1) / 2, abs=0.5)


def test_a_moment_just_after_the_current_frame_shows_that_frame() -> None:
    rng = np.random.default_rng(1)
    previous, current = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    flow = floats(cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH, 2)) * 9, (0, 0), 8))
    assert np.array_equal(shown(previous, current, flow, 0.5, 1e-6), current)
    ((_, frame),) = carry.corrected(current, flow, floats(rng.random((HEIGHT, WIDTH, 3))), (1e-6,))
    assert np.array_equal(frame, current)


def passing(inside: float, outside: float) -> NDArray[np.float32]:
    """A field in which columns 20 to 40 move otherwise than those around them."""
    flow = field(outside, 0)
    flow[:, 20:40] = floats([inside, 0])
    return flow


@pytest.mark.parametrize("t", [0.1, 0.2, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("motions", [(-8, 3), (-8, 0), (6, -2), (-3, -7)])
def test_between_two_motions_every_pixel_moves_by_one_of_them(t: float, motions: tuple[float, float]) -> None:
    """In front of what moves no place of the next frame leads back; half of one motion and half of another is none."""
    (landing,) = carry.landings(passing(*motions), (t,))
    moved = landing.to_current[10, :, 0]
    assert t * min(motions) - carry.JUMP <= moved.min()
    assert moved.max() <= t * max(motions) + carry.JUMP
    neither = np.minimum(abs(moved - t * motions[0]), abs(moved - t * motions[1])) > 0.1
    assert neither.sum() <= 6, "but where the field itself is read between two pixels"


@pytest.mark.parametrize("t", [0.2, 0.4, 0.6])
def test_a_bright_thing_leaves_no_specks_in_front_of_it_between_two_frames(t: float) -> None:
    """It moves right by 8 pixels an interval, over a picture that moves left by 3; the field ends where it was."""
    current = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    current[:, 12:32] = 250
    flow = field(3, 0)
    flow[:, 20:32] = floats([-8, 0])
    ((_, frame),) = carry.corrected(current, flow, floats(sample(current, flow) / 255), (t,))
    bright = np.flatnonzero(frame[10, :, 0] > 155)
    assert bright.tolist() == list(range(bright[0], bright[-1] + 1)), "in one piece"
    assert bright[-1] <= round(31 + 8 * t)
    assert bright[-1] >= 31, "and its front is where it was, at least"


def test_the_correction_of_a_mixture_is_carried_with_the_motion() -> None:
    current, flow = scene(2), field(-2, 0)
    mixed = sample(current, flow).astype(np.float32)
    mixed[:, 30:34] += 20  # what a mixture knew better, at t = 1
    ((_, frame),) = carry.corrected(current, flow, floats(mixed / 255), (3.0,))
    difference = frame.astype(int) - sample(current, 3 * flow)
    assert (difference[:, 34:38] == 20).all()
    assert not difference[:, 40:60].any()


@pytest.mark.parametrize("has_edge", [False, True])
def test_tensors_are_carried_as_pixels_are(has_edge: bool) -> None:
    rng = np.random.default_rng(2)
    smooth = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH, 5)).astype(np.float32) * 30, (0, 0), 6)
    flow, weight = floats(smooth[..., :4]), floats(np.clip(smooth[..., 4] / 4 + 0.4, 0, 1))
    if has_edge:
        flow, weight = np.dstack((2 * passing(-8, 3), passing(-8, 3))), weight * 0 + 0.5
    first, second = floats(flow[..., :2]), floats(flow[..., 2:])
    times = (2.7, 0.25, 1.0)
    images = [torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 for picture in (scene(0), scene(2))]
    tensors = torch.from_numpy(flow).permute(2, 0, 1)[None], torch.from_numpy(weight)[None, None]
    motions = {motion.place: motion for motion in carry.maps(first, second, weight, times)}
    for answer in on_device.carried(images[0], images[1], *tensors, times):
        motion = motions.pop(answer.place)
        frame = carry.blended(scene(0), scene(2), motion, times[answer.place])
        there = (answer.frame[0].permute(1, 2, 0).numpy() * 255).round()
        assert np.abs(there - frame).max() <= 2
        fixed_point = 0.4 if has_edge else 0.1  # a 32nd of a pixel, times how much the field changes over one
        assert np.abs(answer.flow[0].permute(1, 2, 0).numpy() - motion.flow).max() < fixed_point
        assert np.abs(answer.weight[0, 0].numpy() - motion.values).max() < 0.01
    assert not motions
