"""What a stream's frames teach: right candidates gain, wrong ones lose, and nothing is learnt from nonsense."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference.cpu.precision import Arithmetic
from model.mixing import lesson as lessons
from model.mixing import predictor, reduced, weights
from model.mixing.head import HeadConfig
from model.mixing.lesson import Lesson, Tuning
from model.mixing.weights import HeadMetadata
from model.motion.field import Floats, Pixels

NAMES = ("projected", "carried", "still", "soft")
SIZE = (48, 80)
ABOUT = HeadMetadata(HeadConfig(NAMES))


def _stack(seed: int) -> Pixels:
    """Candidates 4xHxWx3 that differ everywhere."""
    return np.random.default_rng(seed).integers(0, 256, (len(NAMES), *SIZE, 3), np.uint8)


def _shares() -> Floats:
    """A quarter each, and no detail: 5xhxw."""
    shares = np.full((len(NAMES) + 1, SIZE[0] // 2, SIZE[1] // 2), 1 / len(NAMES), np.float32)
    shares[-1] = 0
    return shares


def _taught(true_candidate: int, frames: int) -> Lesson:
    """A lesson of a stream in which one candidate comes true and all have equal shares."""
    lesson = Lesson.start(ABOUT)
    for seed in range(frames):
        stack = _stack(seed)
        mean = np.asarray(stack.astype(np.float32).mean(0) / 255, np.float32)
        lesson = lesson.guessed(stack, _shares(), mean).learnt(stack[true_candidate])
    return lesson


def _filmed(count: int, step: float) -> list[NDArray[np.uint8]]:
    """A stream of a noisy pattern that moves by `step` pixels a frame."""
    rng = np.random.default_rng(5)
    height, width = 64, 96
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (height, width + 80, 3)).astype(np.float32), (0, 0), 2) * 4 - 380
    frames = []
    for k in range(count):
        motion = np.array([[1, 0, -step * k], [0, 1, 0]], np.float32)
        moved = np.asarray(cv2.warpAffine(texture, motion, (width, height)))
        frames.append(np.clip(moved + rng.normal(0, 6, moved.shape), 0, 255).astype(np.uint8))
    return frames


@pytest.mark.parametrize("true_candidate", range(len(NAMES)))
def test_the_candidate_that_comes_true_gains_and_the_others_lose(true_candidate: int) -> None:
    logits = _taught(true_candidate, 5).tuning().logits
    assert logits.argmax() == true_candidate
    assert logits[true_candidate] > 0.5
    assert np.delete(logits, true_candidate).max() < 0
    assert np.abs(logits).max() <= lessons.MOST


def test_before_anything_was_seen_nothing_is_weighed_otherwise() -> None:
    lesson = Lesson.start(ABOUT)
    assert not lesson.tuning().logits.any()
    assert lesson.tuning()[1:] == (0.0, 0.0)
    assert lesson.learnt(_stack(0)[0]) is lesson, "nothing was guessed"


@pytest.mark.parametrize(("scale", "most"), [(1.0, lessons.SHARPENING), (0.5, lessons.SHARPENING_OF_PART)])
def test_detail_is_added_as_frames_are_seen_unless_crispness_is_learnt(scale: float, most: float) -> None:
    amounts = [dataclasses.replace(Lesson.start(ABOUT, scale), frames=seen).tuning().sharpening for seen in (1, 10, 50)]
    assert amounts == pytest.approx([most / 10, most, most])
    crisp = dataclasses.replace(Lesson.start(HeadMetadata(HeadConfig(NAMES), crispness=0.5)), frames=50)
    assert crisp.tuning()[1:] == (0.0, 0.0)
    products = crisp.products.copy()
    products[-1] = -1
    assert dataclasses.replace(crisp, products=products).tuning().crispness == 0, "no crispness is taken away"


def test_earlier_frames_count_less_than_later_ones() -> None:
    lesson = _taught(1, 3)
    for seed in range(40):
        stack = _stack(100 + seed)
        mean = np.asarray(stack.astype(np.float32).mean(0) / 255, np.float32)
        lesson = lesson.guessed(stack, _shares(), mean).learnt(stack[2])
    assert lesson.tuning().logits.argmax() == 2


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 16)])
def test_frames_of_any_size_and_of_another_teach_or_are_left_alone(size: tuple[int, int]) -> None:
    lesson = Lesson.start(ABOUT)
    stack = np.random.default_rng(1).integers(0, 256, (len(NAMES), *size, 3), np.uint8)
    shares = np.full((len(NAMES) + 1, 8, 8), 1 / len(NAMES), np.float32)
    guessed = lesson.guessed(stack, shares, stack[0].astype(np.float32) / 255)
    assert np.isfinite(guessed.learnt(stack[1]).tuning().logits).all()
    other = guessed.learnt(np.zeros((300, 400, 3), np.uint8))
    assert (other.frames, other.guess) == (0, None)


def test_what_is_not_finite_teaches_nothing() -> None:
    lesson = _taught(1, 2)
    stack = _stack(9)
    broken = lesson.guessed(stack, _shares(), np.full((*SIZE, 3), np.nan, np.float32)).learnt(stack[1])
    assert np.array_equal(broken.tuning().logits, lesson.tuning().logits)


def test_noise_that_no_candidate_foretells_moves_no_share() -> None:
    lesson = Lesson.start(ABOUT)
    rng = np.random.default_rng(2)
    for seed in range(10):
        stack = _stack(seed)
        mean = np.asarray(stack.astype(np.float32).mean(0) / 255, np.float32)
        frame = np.clip(mean * 255 + rng.normal(0, 40, mean.shape), 0, 255).astype(np.uint8)
        lesson = lesson.guessed(stack, _shares(), mean).learnt(frame)
    assert np.abs(lesson.tuning().logits).max() < 0.1


def test_a_head_that_knows_the_network_is_not_taught() -> None:
    with pytest.raises(ValueError, match="network"):
        Lesson.start(HeadMetadata(HeadConfig((*NAMES, "network"))))


def test_logits_that_are_added_are_those_of_a_head_whose_biases_are_so_much_higher() -> None:
    head, _ = weights.load(weights.LIVE)
    frames = np.random.default_rng(3).integers(0, 256, (5, 32, 48, 3), np.uint8)
    flow = np.zeros((32, 48, 2), np.float32)
    added = np.array([0.5, -1.0, 0.25, 0.0, -0.5], np.float32)
    names = head.config.candidates
    tuned = predictor.weigh(head, names, frames, flow, arithmetic=Arithmetic.FLOAT32, tuning=Tuning(added))
    plain = predictor.weigh(head, names, frames, flow, arithmetic=Arithmetic.FLOAT32)
    expected = plain.shares[:5] * np.exp(added)[:, None, None]
    expected /= expected.sum(0)
    assert np.abs(tuned.shares[:5] - expected).max() < 1e-5
    none = predictor.weigh(
        head, names, frames, flow, arithmetic=Arithmetic.FLOAT32, tuning=Tuning(np.zeros(5, np.float32))
    )
    assert np.array_equal(none.frame, plain.frame)


@pytest.mark.parametrize(("path", "scale"), [(weights.DEFAULT, 1.0), (weights.LIVE, 1.0), (weights.LIVE, 0.5)])
def test_a_stream_is_predicted_better_the_more_of_it_was_seen(path: Path, scale: float) -> None:
    head, about = weights.load(path)
    frames = _filmed(9, 2.5)
    lesson = Lesson.start(about, scale)
    gains = []
    for previous, current, target in zip(frames, frames[1:], frames[2:], strict=False):
        answers: list[predictor.Mixed | reduced.ReducedMixture] = []
        for known in (None, lesson):
            if scale == 1:
                answers.append(predictor.mix(previous, current, None, head, about, lesson=known))
            else:
                answers.append(reduced.mix(previous, current, head, about, scale, lesson=known))
        errors = [np.square(answer.frame - target.astype(np.float32) / 255).mean() for answer in answers]
        gains.append(10 * np.log10(errors[0] / errors[1]))
        assert answers[0].lesson is None
        assert answers[1].lesson is not None
        lesson = answers[1].lesson
    assert gains[0] == 0.0
    assert np.mean(gains[4:]) > 0.02
