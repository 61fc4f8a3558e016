"""What a stream's frames taught is kept with its last frame, and known to nobody else."""

from __future__ import annotations

import dataclasses
import gc
import itertools

import numpy as np
import pytest

from model.mixing import predictor as mixing
from model.mixing import weights
from service.core.types import Frame, Method, Options, PredictRequest, Priority, Quality
from service.engine.device import DeviceWork
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.engine.stream_lessons import StreamLessons
from tests.unit.engine.tiny import network

FAST, FLOW = Options(quality=Quality.FAST, method=Method.FLOW), Options(method=Method.FLOW)


@pytest.fixture(scope="module")
def device() -> Predictor:
    net = network()
    return Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net))


def film(count: int) -> list[Frame]:
    """A noisy pattern that moves, so that every pixel of two frames differs."""
    rng, x = np.random.default_rng(1), np.arange(64)[None, :, None]
    y, colours = np.arange(48)[:, None, None], np.arange(3)[None, None, :]
    frames = []
    for k in range(count):
        waves = 60 * np.sin((x - 2.5 * k) / 3 + colours) + 40 * np.cos(y / 4 + x / 9) + 120
        frames.append(Frame(np.clip(waves + rng.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)))
    return frames


def copied(frame: Frame) -> Frame:
    return Frame(frame.pixels.copy())


def answer(device: Predictor, previous: Frame, current: Frame, options: Options, priority: Priority) -> bytes:
    request = PredictRequest("one", previous, current, options, priority=priority)
    (steps,) = device.run([DeviceWork(request, live=options.quality is Quality.FAST)], lambda work: True).outcomes
    assert isinstance(steps, tuple)
    return b"".join(step.frame.pixels.tobytes() for step in steps)


@pytest.mark.parametrize("options", [FAST, FLOW, dataclasses.replace(FAST, scale=0.5)])
def test_a_streams_pair_is_weighed_by_what_those_before_it_taught(device: Predictor, options: Options) -> None:
    frames = film(4)
    first, *_, last = [answer(device, a, b, options, Priority.LIVE) for a, b in itertools.pairwise(frames)]
    assert first == answer(device, copied(frames[0]), copied(frames[1]), options, Priority.LIVE)
    assert last == answer(device, frames[2], frames[3], options, Priority.LIVE), "the same pair again"
    assert last != answer(device, copied(frames[2]), copied(frames[3]), options, Priority.LIVE), "a pair by itself"


def test_every_step_is_weighed_so_and_the_first_is_what_teaches(device: Predictor) -> None:
    frames, options = film(3), dataclasses.replace(FLOW, steps=2)
    answer(device, frames[0], frames[1], options, Priority.LIVE)
    head, about = weights.load()
    pixels = [frame.pixels for frame in frames]
    fresh = StreamLessons().before(PredictRequest("x", frames[0], frames[1], FLOW), head, about)
    lesson = mixing.mix(pixels[0], pixels[1], None, head, about, lesson=fresh).lesson
    expected = [
        mixing.mix(pixels[1], pixels[2], None, head, about, ahead, lesson=lesson).pixels.tobytes() for ahead in (1, 2)
    ]
    assert answer(device, frames[1], frames[2], options, Priority.LIVE) == b"".join(expected)


def test_background_work_neither_teaches_nor_learns(device: Predictor) -> None:
    frames = film(3)
    answer(device, frames[0], frames[1], FLOW, Priority.BACKGROUND)
    alone = answer(device, copied(frames[1]), copied(frames[2]), FLOW, Priority.LIVE)
    assert answer(device, frames[1], frames[2], FLOW, Priority.LIVE) == alone
    answer(device, frames[0], frames[1], FLOW, Priority.LIVE)
    assert answer(device, frames[1], frames[2], FLOW, Priority.BACKGROUND) == alone


def test_a_lesson_is_of_one_head_and_size_and_is_forgotten_with_its_frame() -> None:
    lessons, frames = StreamLessons(), film(3)
    live = weights.load(weights.LIVE)
    earlier, later = (PredictRequest("x", a, b, FAST) for a, b in itertools.pairwise(frames))
    lesson = lessons.before(earlier, *live)
    assert lesson is not None
    kept = dataclasses.replace(lesson, frames=7)
    lessons.keep(earlier, kept)
    assert lessons.before(later, *live) is kept
    half = dataclasses.replace(later, options=dataclasses.replace(FAST, scale=0.5))
    for other in (lessons.before(half, *live), lessons.before(later, *weights.load())):
        assert other is not None
        assert other.frames == 0
    del earlier, later, half
    frames.clear()
    gc.collect()
    assert len(lessons._lessons) == 0
