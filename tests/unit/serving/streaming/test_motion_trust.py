"""How far predictions are trusted: as far as they were right, per distance, and never beyond all or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from service.serving.streaming.motion_trust import FIRST, LEARNT, MotionTrust

STILL = np.random.default_rng(4).integers(60, 190, (24, 40, 3), dtype=np.uint8)


def teach(trust: MotionTrust, distance: int, right: float, count: int = 60, seed: int = 0) -> None:
    """`count` predictions that move each pixel by up to 20; of that, the part `right` comes, and noise."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        way = rng.uniform(-20, 20, STILL.shape).astype(np.float32)
        truth = np.clip(STILL + right * way + rng.normal(0, 3, STILL.shape), 0, 255).astype(np.uint8)
        trust.learn(distance, STILL + way, STILL, truth)


@pytest.mark.parametrize(("right", "weight"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (-1.0, 0.0), (2.0, 1.0)])
def test_the_weight_is_what_would_have_been_nearest(right: float, weight: float) -> None:
    trust = MotionTrust()
    teach(trust, 2, right)
    assert trust.at(2) == pytest.approx(np.full(STILL.shape[:2], weight), abs=0.12)
    assert trust.at(1) == FIRST[0], "each distance by itself"


def test_before_anything_is_learnt_it_falls_with_the_distance() -> None:
    weights = [MotionTrust().at(distance).item() for distance in (1, 2, 3, 4, 5, 16)]
    assert weights == pytest.approx([*FIRST, FIRST[-1]])


def test_what_is_beyond_is_judged_by_the_farthest_that_is_learnt() -> None:
    trust = MotionTrust()
    teach(trust, LEARNT, 0.0)
    assert trust.at(LEARNT).max() < 0.12
    assert trust.at(16).max() < 0.12
    teach(trust, LEARNT + 1, 1.0)
    assert trust.at(16).max() < 0.12, "learnt is what was told of these distances only"


def test_a_still_picture_and_noise_teach_nothing() -> None:
    trust = MotionTrust()
    for _ in range(100):
        trust.learn(3, STILL.astype(np.float32), STILL, STILL)
    assert trust.at(3) == pytest.approx(FIRST[2])


def test_each_place_of_a_picture_is_trusted_by_itself_and_another_size_begins_anew() -> None:
    trust, way = MotionTrust(), np.full(STILL.shape, 20, np.float32)
    truth = STILL.copy()
    truth[:, :20] += 20
    for _ in range(60):
        trust.learn(1, STILL + way, STILL, truth)
    weights = trust.at(1)
    assert weights[:, :16].min() > 0.95
    assert weights[:, 24:].max() < 0.05
    small = STILL[:8, :8]
    trust.learn(1, small + way[:8, :8], small, small)
    assert trust.at(1).shape == (8, 8)


def test_one_cut_is_no_more_than_one_frame_that_was_wrong() -> None:
    trust, other_scene = MotionTrust(), np.full(STILL.shape, 255, np.uint8)
    teach(trust, 1, 1.0)
    trust.learn(1, STILL - np.float32(10), STILL, other_scene)
    assert trust.at(1).min() > 0.85
