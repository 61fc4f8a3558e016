"""The last rung: the motion before, followed on for whoever has one and no time."""

from __future__ import annotations

import dataclasses
import gc
import itertools

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded
from service.core.types import Frame, Method, Options, PredictRequest, Quality
from service.engine.device import DeviceWork
from service.engine.known_motions import MOST_PAIRS, KnownMotions
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.engine.scheduling.cold_runs import ColdRuns
from service.engine.scheduling.cost_model import CostModel, MeasuredRun, RouteOption
from service.engine.scheduling.mixture_costs import MixtureCosts, is_left_to_live
from service.engine.scheduling.pricing import DeviceCosts
from service.engine.versions.loaded_devices import LoadedDevices
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import Rigged, batching, count, network, request

ADAPTIVE = Options(quality=Quality.ADAPTIVE)


def device() -> Predictor:
    net = network()
    return Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net))


def costs_of(device: Predictor) -> DeviceCosts:
    network = CostModel(device.weights_of_blocks, device.weight_of_routing)
    return DeviceCosts(network, MixtureCosts.of(device.info.methods))


def sliding(count: int, step: int = 2) -> list[Frame]:
    """A ramp that moves by `step` pixels a frame."""
    x = np.arange(48)[None, :] + np.zeros((32, 1), int)
    return [Frame(np.stack([100 + 2 * (x - step * k)] * 3, 2).astype(np.uint8)) for k in range(count)]


def pair(frames: list[Frame], k: int, options: Options = ADAPTIVE) -> PredictRequest:
    return PredictRequest(str(k), frames[k], frames[k + 1], options)


def flow(x: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.broadcast_to(np.asarray([x, 0], np.float32), (32, 48, 2)).copy()


def test_a_motion_is_followed_from_frame_to_frame_until_it_is_old() -> None:
    known, frames = KnownMotions(), sliding(MOST_PAIRS + 2)
    assert not known.knows(frames[0])
    known.remember(frames[0], flow(-2))
    for before, after in itertools.pairwise(frames[: MOST_PAIRS + 1]):
        assert known.knows(before)
        motion = known.follow(before, after)
        assert motion is not None
        assert np.allclose(motion, flow(-2), atol=1e-5)
    assert not known.knows(frames[MOST_PAIRS])
    assert known.follow(frames[MOST_PAIRS], frames[MOST_PAIRS + 1]) is None


def test_a_motion_is_forgotten_with_its_frame() -> None:
    known, frames = KnownMotions(), sliding(1)
    known.remember(frames[0], flow(1))
    assert len(known._motions) == 1
    frames.clear()
    gc.collect()
    assert len(known._motions) == 0


@pytest.mark.parametrize(("steps", "times", "moments"), [(2, (), (1, 2)), (1, (0.5, 2.5), (0.5, 2.5))])
def test_frames_show_the_known_motion_gone_on(steps: int, times: tuple[float, ...], moments: tuple[float, ...]) -> None:
    own, frames = device(), sliding(3)
    assert own._mixtures is not None
    own._mixtures.known.remember(frames[1], flow(-2))
    one = pair(frames, 1, dataclasses.replace(ADAPTIVE, steps=steps, times=times))
    ran = own.run([DeviceWork(one, shifted=True)], lambda work: True)
    (outcome,) = ran.outcomes
    assert isinstance(outcome, tuple)
    for step, t in zip(outcome, moments, strict=True):
        truth = frames[2].pixels.astype(float) - 4 * t
        assert np.abs(step.frame.pixels - truth)[:, 14:-2].max() <= 1
        assert (step.method, dict(step.shares), step.flops) == (Method.FLOW, {"before": 1.0}, 0)
    assert ran.shifted is not None
    assert (ran.load.pixels, ran.live) == (0, None)


def test_without_its_motion_a_work_gets_the_live_head() -> None:
    own, frames = device(), sliding(3)
    ((with_head,),) = own.run([DeviceWork(pair(frames, 1), live=True)], lambda work: True).outcomes  # type: ignore[misc]
    ((step,),) = own.run([DeviceWork(pair(frames, 1), shifted=True)], lambda work: True).outcomes  # type: ignore[misc]
    assert np.array_equal(step.frame.pixels, with_head.frame.pixels)


@pytest.mark.parametrize("options", [ADAPTIVE, Options(method=Method.FLOW, quality=Quality.ADAPTIVE)])
def test_only_who_allows_it_has_the_motion_remembered(options: Options) -> None:
    own, frames = device(), sliding(3)
    for quality in (Quality.EXACT, Quality.FAST, Quality.ADAPTIVE):
        one = pair(frames, 0, dataclasses.replace(options, quality=quality))
        own.run([DeviceWork(one)], lambda work: True)
        assert own.knows_motion(pair(frames, 1)) is (quality is Quality.ADAPTIVE)


def test_it_is_the_last_way_beside_ways_whose_costs_are_whole() -> None:
    costs, bucket = MixtureCosts.of((Method.DMVFN, Method.FLOW)), Bucket(32, 48, 1.0)
    route, live = RouteOption(1.0, (True,) * 9), RouteOption(0.5, live=True)
    ways = costs.with_shifted((route, live), bucket, 2, 0.25)
    assert ways[:2] == (RouteOption(1.5, (True,) * 9), RouteOption(1.0, live=True))
    assert ways[2].shifted
    assert 0 < ways[2].cost < 0.001, "no pass"
    assert is_left_to_live(ways, 1.4)
    assert not is_left_to_live(ways, 1.6)


async def test_a_lone_request_that_nothing_else_could_answer_in_time_is_answered() -> None:
    """Everything else takes a minute here, as its warm-up says; the deadline is far too short for that."""
    metrics, rigged, frames = Metrics(CollectorRegistry()), Rigged(device()), sliding(4)
    rigged.table = [dataclasses.replace(row, seconds=60.0) for row in rigged.real.warm_up([(32, 48)])]
    async with batching(rigged, metrics=metrics) as batcher:
        with pytest.raises(DeadlineExceeded):
            await batcher.predict(dataclasses.replace(pair(frames, 1), deadline=batcher._clock() + 20))
        rigged.real._mixtures.known.remember(frames[1], flow(-2))  # type: ignore[attr-defined]
        answer = await batcher.predict(dataclasses.replace(pair(frames, 1), deadline=batcher._clock() + 20))
    assert (answer.shortened, answer.method, answer.shares) == (True, Method.FLOW, {"before": 1.0})
    assert count(metrics, "adaptive_substitutes_total", kind="shifted") == 1
    assert rigged.routed == []


async def test_a_streams_next_pair_finds_the_motion_that_the_network_left() -> None:
    frames, own = sliding(3), device()
    async with batching(Rigged(own)) as batcher:
        first = await batcher.predict(dataclasses.replace(pair(frames, 0), deadline=batcher._clock() + 60))
    assert (first.method, first.shortened) == (Method.DMVFN, False)
    assert own.knows_motion(pair(frames, 1))
    assert not own.knows_motion(request(1))


def test_each_version_knows_the_motions_that_its_own_weights_found() -> None:
    own, other, frames = device(), device(), sliding(3)
    devices = LoadedDevices(own, costs_of(own), ColdRuns(1))
    bucket, reports = Bucket(32, 48, 1.0), list[object]()
    for _ in devices.install(1, 0, lambda: other, [], reports.append):
        pass
    assert reports == [other.info]
    other.run([DeviceWork(pair(frames, 0))], lambda work: True)
    known = [devices.knows_motion(bucket._replace(weights=number), pair(frames, 1)) for number in range(3)]
    assert known == [False, True, False], "number 2 is not loaded"


def test_what_stood_in_teaches_its_own_costs_and_not_those_of_the_method() -> None:
    own, frames, bucket = device(), sliding(3), Bucket(32, 48, 1.0)
    assert own._mixtures is not None
    own._mixtures.known.remember(frames[1], flow(-2))
    costs = costs_of(own)
    network, mixtures = costs.network, costs.mixtures
    output = own.run([DeviceWork(pair(frames, 1), shifted=True)], lambda work: True)
    assert output.shifted is not None
    before = mixtures.with_shifted((), bucket, 1, 0.0), network.factors.copy()
    slow = dataclasses.replace(output, shifted=dataclasses.replace(output.shifted, seconds=1.0))
    costs.observe(MeasuredRun(bucket, slow.load, 1.0), slow.stand_ins)
    assert mixtures.with_shifted((), bucket, 1, 0.0)[0].cost > 2 * before[0][0].cost
    assert network.factors == before[1]
