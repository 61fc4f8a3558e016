"""Made-up scenes: their motion is exact, things hide one another, and the same seed films the same scene."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from model.motion.field import sample
from model.training import scenes
from model.training.scenes import Camera, Face

HEIGHT, WIDTH = 96, 128
_STILL = np.zeros(3)


def _texture(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    y, x = np.indices((128, 128), np.float32)
    waves = [np.sin(x / 9 + rng.uniform(0, 6)) + np.cos(y / 11 + rng.uniform(0, 6)) for _ in range(3)]
    return (np.stack(waves, -1) * 50 + 120).astype(np.uint8)


def _wall(depth: float, size: float, seed: int, x: float = 0.0) -> Face:
    """A wall that faces the camera."""
    edges = np.array([[size / 128, 0], [0, size / 128], [0, 0]])
    return Face(np.array([x - size / 2, -size / 2, depth]), edges, _texture(seed), _STILL)


def _camera(velocity: tuple[float, float, float] = (0, 0, 0), spin: tuple[float, float, float] = (0, 0, 0)) -> Camera:
    return Camera(100.0, np.array(velocity, float), np.array(spin, float), _STILL, np.zeros((3, 3)))


def test_a_wall_moves_as_its_distance_says() -> None:
    flow, visible = scenes.motion([_wall(10, 40, 1)], _camera((0.3, 0, 0)), HEIGHT, WIDTH)
    # 100 px of focal length, 0.3 m at 10 m: what is at x in the target was 3 px further right before.
    assert np.allclose(flow, [3, 0], atol=1e-3)
    assert visible[:, :-4].all()
    assert not visible[:, -2:].any()


def test_coming_nearer_makes_things_larger() -> None:
    flow, _ = scenes.motion([_wall(10, 40, 1)], _camera((0, 0, 0.5)), HEIGHT, WIDTH)
    x = np.arange(WIDTH) - (WIDTH - 1) / 2
    assert np.allclose(flow[HEIGHT // 2, :, 0], x * (10 / 10.5 - 1), atol=1e-3)


def test_turning_moves_near_and_far_alike() -> None:
    spin = (0, 0.02, 0)
    near, far = (scenes.motion([_wall(depth, 9 * depth, 1)], _camera(spin=spin), HEIGHT, WIDTH)[0] for depth in (5, 50))
    assert np.allclose(near, far, atol=1e-2)
    assert math.isclose(abs(near[HEIGHT // 2, WIDTH // 2, 0]), 2, rel_tol=0.02)


def test_what_is_nearer_hides_what_is_behind_and_uncovers_it_as_it_moves() -> None:
    faces = [_wall(20, 80, 1), dataclasses.replace(_wall(5, 2, 2), velocity=np.array([0.2, 0, 0]))]
    seen = scenes.look(faces, _camera(), 0, HEIGHT, WIDTH)
    assert seen.owner[HEIGHT // 2, WIDTH // 2] == 1
    assert seen.owner[2, 2] == 0
    flow, visible = scenes.motion(faces, _camera(), HEIGHT, WIDTH)
    # The thing moves 4 px to the right; what it left was hidden behind it before.
    left = WIDTH // 2 - 20
    assert np.allclose(flow[HEIGHT // 2, WIDTH // 2], [-4, 0], atol=1e-3)
    assert not visible[HEIGHT // 2, left - 3]
    assert visible[HEIGHT // 2, left - 8]


def test_a_cut_out_is_smaller_than_its_rectangle() -> None:
    whole = _wall(5, 3, 1)
    cut = dataclasses.replace(whole, outline=np.zeros((scenes.WAVES, 2)))
    counts = [(scenes.look([face], _camera(), 0, HEIGHT, WIDTH).owner == 0).sum() for face in (whole, cut)]
    assert 0.2 < counts[1] / counts[0] < 0.4  # a disc of radius 0.6 in a square of side 2


def test_following_the_exact_motion_gives_the_target() -> None:
    rng = np.random.default_rng(4)
    for _ in range(3):
        triple = scenes.make([_texture(k) for k in range(5)], HEIGHT, WIDTH, rng)
        error = np.square(sample(triple.current, triple.flow).astype(float) - triple.target).mean(2)
        unmoved = np.square(triple.current.astype(float) - triple.target).mean()
        assert error[triple.visible].mean() < 0.5 * unmoved
        assert triple.visible.mean() > 0.5
        assert 0.2 < np.hypot(triple.flow[..., 0], triple.flow[..., 1]).mean() < 60


def test_the_same_seed_films_the_same_scene() -> None:
    first, second = (scenes.make([_texture(1), _texture(2)], HEIGHT, WIDTH, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(np.stack(first[:3]), np.stack(second[:3]))
    assert np.array_equal(first.flow, second.flow)
