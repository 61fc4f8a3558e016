"""Moments t: one prediction's frames, whatever method, batch or size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from model.mixing import predictor as mixing
from model.mixing import weights
from model.motion import carry
from service.core.errors import DeadlineExceeded
from service.core.types import Frame, Method, Options, PredictRequest, RouteChoice, Step
from service.engine.device import DeviceWork, RunOutput, bucket_of
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import Rigged, batching, count, network, request

TIMES = (2.5, 1.0, 0.5)
NONE = (False,) * 9


def device() -> Predictor:
    net = network()
    return Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net))


DEVICE = device()
METHODS = [Options(RouteChoice.parse("full")), Options(method=Method.FLOW)]


def run(*requests: PredictRequest, live: bool = False) -> RunOutput:
    return DEVICE.run([DeviceWork(one, live=live) for one in requests], lambda work: True)


def frames(ran: RunOutput, place: int = 0) -> tuple[Step, ...]:
    outcome = ran.outcomes[place]
    assert isinstance(outcome, tuple)
    return outcome


def at(options: Options, *times: float) -> Options:
    return dataclasses.replace(options, times=times)


@pytest.mark.parametrize("options", METHODS)
@pytest.mark.parametrize("size", [(32, 48), (37, 50)])
def test_t_one_is_the_next_frame_and_all_share_its_flops(options: Options, size: tuple[int, int]) -> None:
    (alone,) = frames(run(request(3, *size, options=options)))
    steps = frames(run(request(3, *size, options=at(options, *TIMES))))
    assert [step.t for step in steps] == [*TIMES]
    assert np.array_equal(steps[1].frame.pixels, alone.frame.pixels)
    assert [step.flops for step in steps] == [alone.flops, 0, 0]
    assert [step.route for step in steps] == [alone.route, NONE, NONE]
    assert {step.method for step in steps} == {alone.method}
    assert len({step.frame.pixels.tobytes() for step in steps}) == 3


@pytest.mark.parametrize("live", [False, True])
def test_a_mixtures_moments_are_its_main_flow_carried_and_corrected(live: bool) -> None:
    one = request(4, options=at(METHODS[1], 2.7))
    (step,) = frames(run(one, live=live))
    head, about = weights.load(weights.LIVE if live else weights.DEFAULT)
    mixed = mixing.mix(one.previous.pixels, one.current.pixels, None, head, about)
    ((_, frame),) = carry.corrected(one.current.pixels, mixed.flow, mixed.frame, (2.7,))
    assert np.array_equal(step.frame.pixels, frame)


@pytest.mark.parametrize("options", METHODS)
def test_maps_are_those_of_each_moment(options: Options) -> None:
    near, far = frames(run(request(3, options=dataclasses.replace(at(options, 1, 3), maps=True))))
    assert near.flow is not None
    assert far.flow is not None
    assert np.abs(far.flow[..., 2:]).mean() > 1.5 * np.abs(near.flow[..., 2:]).mean()
    values = far.mask if options.method is None else far.confidence
    assert values is not None
    assert values.shape == (32, 48)


def test_batch_mates_with_and_without_moments_do_not_matter() -> None:
    wishes = [at(METHODS[0], *TIMES), METHODS[0], dataclasses.replace(METHODS[0], steps=3), at(METHODS[0], 4)]
    requests = [request(seed, options=options) for seed, options in enumerate(wishes)]
    together = run(*requests)
    for place, one in enumerate(requests):
        alone = [step.frame.pixels.tobytes() for step in frames(run(one))]
        assert [step.frame.pixels.tobytes() for step in frames(together, place)] == alone


@pytest.mark.parametrize("options", METHODS)
def test_the_load_is_one_pass_and_a_little_for_each_further_moment(options: Options) -> None:
    one = at(options, *TIMES)
    ran = run(request(1, options=one))
    bucket = bucket_of(request(1), Method.DMVFN)
    assert ran.load.pixels == pytest.approx(one.work * bucket.pixels)
    assert one.work == pytest.approx(1.12)
    assert ran.load.passes == (1 if options.method is None else 0)


@pytest.mark.parametrize("options", METHODS)
def test_a_cut_between_the_frames_is_said_and_nothing_is_carried_across_it(options: Options) -> None:
    dark, light = np.full((32, 48, 3), 20, np.uint8), np.zeros((32, 48, 3), np.uint8)
    light[:, ::2] = (250, 130, 200)
    pair = PredictRequest("cut", Frame(dark), Frame(light), dataclasses.replace(at(options, 0.5, 2), maps=True))
    ran = run(pair)
    for step, t in zip(frames(ran), (0.5, 2), strict=True):
        assert (step.is_cut, step.t, step.flops, step.route) == (True, t, 0, NONE)
        assert np.array_equal(step.frame.pixels, light)
        assert step.flow is not None
        assert not step.flow.any()
    assert ran.load.pixels == 0
    (told,) = frames(run(dataclasses.replace(pair, options=options)))
    assert not told.is_cut, "a rollout says nothing new"


@pytest.mark.parametrize("options", METHODS)
def test_nothing_is_carried_on_for_nobody(options: Options) -> None:
    answers = iter([True, False])
    ran = DEVICE.run([DeviceWork(request(1, options=at(options, 2, 3, 4, 5)))], lambda work: next(answers))
    assert ran.outcomes == ((),)
    assert next(answers, None) is None


async def test_moments_go_through_the_batcher_and_are_counted_as_what_they_are() -> None:
    metrics = Metrics(CollectorRegistry())
    async with batching(Rigged(DEVICE), metrics=metrics) as batcher:
        for options in METHODS:
            one = request(5, options=at(options, *TIMES))
            answer = await batcher.predict(one)
            assert answer.times == TIMES
            assert answer.flops == answer.steps[0].flops
        rolled = await batcher.predict(request(5, options=Options(steps=2)))
        assert list(rolled.times) == [1, 2]
        with pytest.raises(DeadlineExceeded):
            await batcher.predict(request(5, options=at(Options(), 1, 2), deadline=0.0))
    assert count(metrics, "frames_carried_total") == 4
