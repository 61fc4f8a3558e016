"""A still camera's stream: what stands still is copied bit for bit, and what moves is what it would be by itself."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from model.mixing import moving, reduced, weights
from model.mixing import predictor as mixing
from model.mixing.moving import Box
from model.motion import carry
from service.core.types import Frame, Method, Options, PredictRequest, Quality, Step
from service.engine import moving_parts
from service.engine.device import DeviceWork, RunOutput
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.engine.scheduling.mixture_costs import PARTS
from tests.unit.engine.tiny import network

HEIGHT, WIDTH = 320, 480
FLOW, FAST = Options(method=Method.FLOW), Options.parse(quality=Quality.FAST)
HALF = Options.parse(quality=Quality.FAST, scale=0.5)
ADAPTIVE = Options(method=Method.FLOW, quality=Quality.ADAPTIVE)
NET = network()
DEVICE = Predictor(NET, device="cpu", threads=1, mixtures=Mixtures.load(NET))


def scene(*objects: tuple[int, int], side: int = 40, blur: float = 2.0) -> Frame:
    """A still textured background, with textured squares whose corners are at these places."""
    rng = np.random.default_rng(5)
    background = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), blur)
    square = cv2.GaussianBlur(rng.integers(0, 256, (side, side, 3), np.uint8), (0, 0), 1.5)
    for top, left in objects:
        background[top : top + side, left : left + side] = square
    return Frame(np.ascontiguousarray(background))


def pair(options: Options, *before: tuple[int, int], step: int = 3) -> PredictRequest:
    after = [(top, left + step) for top, left in before]
    return PredictRequest("still camera", scene(*before), scene(*after), options)


def run(request: PredictRequest) -> RunOutput:
    is_fast = request.options.quality is Quality.FAST
    return DEVICE.run([DeviceWork(request, live=is_fast)], lambda work: True)


def frames(request: PredictRequest) -> tuple[Step, ...]:
    (steps,) = run(request).outcomes
    assert isinstance(steps, tuple)
    return steps


def alone(request: PredictRequest, box: Box, options: Options, ahead: int = 1) -> tuple[Box, np.ndarray]:
    """What the head of these options predicts of what moves in a part, along that part's motion; and where it is."""
    head = weights.load(weights.LIVE if options is FAST or options is HALF else weights.DEFAULT)
    before, after = parts(request, box)
    core = moving.core(before, after, options.scale)
    older, newer = (np.ascontiguousarray(core.of(frame)) for frame in (before, after))
    if options is HALF:
        motions = reduced.find_motions(before, after, *head, 0.5).of(*core.slices(0.5))
        return core.within(box), reduced.mix(older, newer, *head, 0.5, ahead, motions).pixels
    motions = mixing.find_motions(before, after, *head).of(*core.slices(1.0))
    return core.within(box), mixing.mix(older, newer, None, *head, ahead, motions).pixels


def parts(request: PredictRequest, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """A part of both frames."""
    previous, current = (np.ascontiguousarray(box.of(frame.pixels)) for frame in (request.previous, request.current))
    return previous, current


@pytest.mark.parametrize("options", [FLOW, FAST, HALF])
def test_what_stands_still_is_copied_and_what_moves_is_what_it_is_by_itself(options: Options) -> None:
    one = pair(options, (30, 40), (240, 400))
    boxes = moving.boxes(one.previous.pixels, one.current.pixels, options.scale)
    assert boxes is not None
    assert len(boxes) == 2
    expected, places = one.current.pixels.copy(), []
    for box in boxes:
        place, pixels = alone(one, box, options)
        assert place.area < box.area
        place.of(expected)[:] = pixels
        places.append(place)
    ran = run(one)
    (steps,) = ran.outcomes
    assert isinstance(steps, tuple)
    assert np.array_equal(steps[0].frame.pixels, expected)
    assert sum(steps[0].shares.values()) == pytest.approx(1, abs=1e-3)
    assert steps[0].shares["still"] > 0.5
    load = ran.live.load if ran.live is not None else ran.load
    priced = sum(moving_parts.priced_pixels(box, place) for box, place in zip(boxes, places, strict=True))
    assert load.pixels == pytest.approx(priced * PARTS[options.scale], rel=0.01), "priced as what was run"


def test_it_is_near_what_the_whole_frame_gives_where_something_moves() -> None:
    """Not bit for bit: the flow of a whole frame is found on coarser sizes, too, and softens what stands still."""
    one = pair(FLOW, (140, 200))
    whole = mixing.mix(one.previous.pixels, one.current.pixels, None, *weights.load()).pixels
    truth = scene((140, 206)).pixels.astype(float)
    (step,) = frames(one)
    errors = [float(np.square(picture - truth).mean()) for picture in (step.frame.pixels, whole, one.current.pixels)]
    assert errors[0] < 1.05 * errors[1] < errors[2]


@pytest.mark.parametrize("options", [FLOW, FAST, HALF])
def test_a_frame_in_which_nothing_changes_is_repeated_at_once(options: Options) -> None:
    picture = scene((30, 40))
    again = Frame(picture.pixels.copy())
    one = PredictRequest("1", picture, again, dataclasses.replace(options, steps=3, maps=True))
    steps = frames(one)
    assert [step.frame for step in steps] == [again] * 3
    for step in steps:
        assert (step.shares, step.flops, step.method, step.is_cut) == ({"still": 1.0}, 0, Method.FLOW, False)
        assert step.flow is not None
        assert step.confidence is not None
        assert (step.flow.shape, float(np.abs(step.flow).max())) == ((HEIGHT, WIDTH, 4), 0)
        assert float(step.confidence.min()) == 1
    moments = frames(dataclasses.replace(one, options=dataclasses.replace(options, times=(0.5, 2.0))))
    assert [(step.frame, step.t) for step in moments] == [(again, 0.5), (again, 2.0)]


def test_steps_moments_and_maps_are_assembled_too() -> None:
    one = pair(FLOW, (140, 200))
    boxes = moving.boxes(one.previous.pixels, one.current.pixels)
    assert boxes is not None
    (box,) = boxes
    steps = frames(dataclasses.replace(one, options=dataclasses.replace(FLOW, steps=2, maps=True)))
    moments = frames(dataclasses.replace(one, options=dataclasses.replace(FLOW, times=(0.5, 2.0), maps=True)))
    assert ([step.t for step in steps], [step.t for step in moments]) == ([None] * 2, [0.5, 2.0])
    for ahead, step in enumerate(steps, 1):
        place, pixels = alone(one, box, FLOW, ahead)
        assert np.array_equal(place.of(step.frame.pixels), pixels)
    for step in (*steps, *moments):
        assert step.flow is not None
        assert float(np.abs(place.of(step.flow)).max()) > 1
        outside = step.frame.pixels.copy()
        place.of(outside)[:], place.of(step.flow)[:] = place.of(one.current.pixels), 0
        assert np.array_equal(outside, one.current.pixels)
        assert not step.flow.any(), "outside nothing moves"


def test_what_leaves_its_surroundings_is_predicted_with_the_whole_part() -> None:
    """What moves fast is seen to leave what is mixed, along a motion that does not leave where it was looked for."""
    before, after = (scene((120, left), side=80, blur=0.5) for left in (200, 212))
    one = PredictRequest("leaving", before, after, dataclasses.replace(HALF, steps=4))
    boxes = moving.boxes(one.previous.pixels, one.current.pixels, 0.5)
    assert boxes is not None
    (box,) = boxes
    older, newer = parts(one, box)
    expected = one.current.pixels.copy()
    box.of(expected)[:] = reduced.mix(older, newer, *weights.load(weights.LIVE), 0.5).pixels
    assert np.array_equal(frames(one)[0].frame.pixels, expected)


def test_what_leaves_a_part_is_told_but_not_what_only_seems_to_move() -> None:
    """By what the edges show: where that is one colour any motion may be found. The frame's border may be crossed."""
    one = pair(FLOW, (60, 30))
    box = Box(32, 0, 128, 96)
    part = moving_parts.crop(one, box)
    for edge in (np.s_[:2], np.s_[-2:], np.s_[:, -2:]):
        flow = np.zeros((96, 96, 2), np.float32)
        flow[40:50, :20] = 9
        moving_parts.check_still_around(box, one, part, flow)
        flow[edge] = -8.5
        with pytest.raises(moving_parts.MotionLeaves):
            moving_parts.check_still_around(box, one, part, flow)
        flat = Frame(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        plain = dataclasses.replace(one, previous=flat, current=flat)
        moving_parts.check_still_around(box, plain, moving_parts.crop(plain, box), flow)


@pytest.mark.parametrize(("t", "is_whole"), [(1.0, False), (16.0, True)])
def test_where_something_will_leave_its_part_the_whole_frame_is_predicted(t: float, is_whole: bool) -> None:
    """Around what moves fast some motion is found, too: it shows on fine texture, and after sixteen frames."""
    before, after = (scene((120, left), side=80, blur=0.5) for left in (200, 220))
    one = PredictRequest("leaving", before, after, dataclasses.replace(HALF, times=(t,)))
    whole = reduced.mix(before.pixels, after.pixels, *weights.load(weights.LIVE), 0.5)
    ((_, expected),) = carry.corrected(after.pixels, whole.flow, whole.frame, (t,))
    (step,) = frames(one)
    assert np.array_equal(step.frame.pixels, expected if t != 1 else whole.pixels) == is_whole


def test_the_motion_of_a_still_cameras_stream_is_known_by_its_whole_frame() -> None:
    one = pair(ADAPTIVE, (140, 200))
    frames(one)
    assert DEVICE.knows_motion(PredictRequest("2", one.current, scene((140, 206)), ADAPTIVE))


def test_a_request_that_nobody_waits_for_any_more_gets_no_further_part() -> None:
    one = pair(FLOW, (30, 40), (240, 400))
    (steps,) = DEVICE.run([DeviceWork(one)], lambda work: False).outcomes
    assert steps == ()
