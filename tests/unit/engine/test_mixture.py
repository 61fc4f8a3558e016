"""Methods flow and mix: what the head predicts directly, bit for bit, whoever else is in the batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from model import checkpoint
from model.checkpoint import CheckpointError
from model.mixing import predictor as mixing
from model.mixing import weights
from model.mixing.head import HeadConfig, MixingHead
from model.mixing.threads import MixingThreads
from model.motion import field
from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded, Internal, InvalidRequest
from service.core.types import Method, Options, PredictRequest, Quality, RouteChoice, Step
from service.engine.device import DeviceWork, RunOutput
from service.engine.fault_isolation import Fault, classify
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.engine.scheduling.cost_model import MeasuredRun
from service.engine.scheduling.mixture_costs import mixture_load
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import Rigged, batching, count, frames, network, predictor, request, same

FAST = Options.parse(quality=Quality.FAST)
FLOW, MIX, LIVE = Options(method=Method.FLOW), Options(method=Method.MIX), Options(quality=Quality.ADAPTIVE)
NAMES = ("projected", "carried", "still", "soft", "network")


def head_file(folder: Path, *, nan: bool = False) -> Path:
    """A head that knows the network as a candidate, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        head = MixingHead(HeadConfig(NAMES, (4, 8, 8)))
        with torch.no_grad():
            head.leave.weight.normal_(0, 0.5)
            if nan:
                head.leave.weight.fill_(float("nan"))
    path = folder / "head.safetensors"
    weights.save(path, head, weights.HeadMetadata(head.config, preset="fast"))
    return path


def device(head: Path | None = None) -> Predictor:
    net = network()
    return Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net, head))


FLOWING = device()


def run(predictor: Predictor, *requests: PredictRequest, live: bool = False) -> RunOutput:
    return predictor.run([DeviceWork(one, live=live) for one in requests], lambda work: True)


def steps_of(ran: RunOutput) -> tuple[Step, ...]:
    (steps,) = ran.outcomes
    assert isinstance(steps, tuple)
    return steps


@pytest.mark.parametrize("options", [Options(), Options(RouteChoice.parse("full"), 2), Options(scale=0.5, maps=True)])
def test_the_network_answers_as_it_does_without_mixtures(options: Options) -> None:
    one = request(1, 41, 67, options=options)
    named = dataclasses.replace(one, options=dataclasses.replace(options, method=Method.DMVFN))
    expected = steps_of(run(predictor(), one))
    for answer in (steps_of(run(FLOWING, one)), steps_of(run(FLOWING, named))):
        for step, other in zip(expected, answer, strict=True):
            assert (step.route, step.flops, other.method, other.shares) == (other.route, other.flops, Method.DMVFN, {})
            assert step.frame.pixels.tobytes() == other.frame.pixels.tobytes()


@pytest.mark.parametrize("size", [(32, 48), (41, 67), (16, 16)])
def test_flow_is_what_the_shipped_head_predicts_step_after_step(size: tuple[int, int]) -> None:
    one = request(2, *size, options=dataclasses.replace(FLOW, steps=3))
    head, about = weights.load()
    expected = mixing.rollout(one.previous.pixels, one.current.pixels, 3, None, head, about)
    steps = steps_of(run(FLOWING, one))
    for step, mixed in zip(steps, expected, strict=True):
        assert step.frame.pixels.tobytes() == mixing.rounded(mixed.frame).tobytes()
        assert (step.method, step.route, step.shares) == (Method.FLOW, (False,) * 9, mixed.report.shares)
        assert step.flops == 2 * mixed.report.macs


def test_mix_is_what_the_head_and_the_network_predict_and_counts_both(tmp_path: Path) -> None:
    path, one = head_file(tmp_path), request(3, 41, 67, options=dataclasses.replace(MIX, steps=2))
    mixer, net = device(path), network()
    head, about = weights.load(path)
    expected = mixing.rollout(one.previous.pixels, one.current.pixels, 2, net, head, about)
    steps = steps_of(run(mixer, one))
    assert mixer.info.methods == (Method.DMVFN, Method.FLOW, Method.MIX)
    for step, mixed in zip(steps, expected, strict=True):
        assert step.frame.pixels.tobytes() == mixing.rounded(mixed.frame).tobytes()
        assert (step.method, step.route) == (Method.MIX, mixed.report.route)
        assert set(step.shares) == set(NAMES)
        assert any(step.route)
        halved = mixer.flops(Bucket.of(20, 34))
        blocks = sum(cost for cost, runs in zip(halved.blocks, step.route, strict=True) if runs)
        assert step.flops == 2 * mixed.report.macs + halved.routing + blocks
    assert "network" not in steps_of(run(mixer, request(3, options=FLOW)))[0].shares


def test_the_shipped_head_does_not_know_the_network_so_mix_is_refused() -> None:
    assert FLOWING.info.methods == (Method.DMVFN, Method.FLOW)
    with pytest.raises(InvalidRequest, match="method mix is not served here; there is dmvfn, flow"):
        run(FLOWING, request(1, options=MIX))


def test_batch_mates_do_not_matter(tmp_path: Path) -> None:
    mixer = device(head_file(tmp_path))
    for options in (FLOW, MIX):
        mates = [request(seed, 40, 56 - seed, options=options) for seed in range(4)]
        for one, outcome in zip(mates, run(mixer, *mates).outcomes, strict=True):
            (alone,) = steps_of(run(mixer, one))
            assert isinstance(outcome, tuple)
            assert outcome[0].frame.pixels.tobytes() == alone.frame.pixels.tobytes()


def test_maps_of_a_mixture_are_its_main_flow_to_both_frames_and_the_trust_in_it() -> None:
    one = request(4, 48, 64, options=dataclasses.replace(FLOW, maps=True))
    (step,) = steps_of(run(FLOWING, one))
    head, about = weights.load()
    flow = mixing.mix(one.previous.pixels, one.current.pixels, None, head, about).flow
    expected = field.steady(one.previous.pixels, one.current.pixels, flow)
    assert step.flow is not None
    assert step.confidence is not None
    assert step.mask is None
    assert np.array_equal(step.flow, np.concatenate((expected.previous, expected.current), 2))
    assert np.array_equal(step.confidence, expected.confidence)
    assert step.flow.flags.c_contiguous
    assert {step.flow.dtype, step.confidence.dtype} == {np.dtype(np.float32)}


def test_what_is_not_finite_fails_alone(tmp_path: Path) -> None:
    broken = device(head_file(tmp_path, nan=True))
    (outcome,) = run(broken, request(1, options=FLOW)).outcomes
    assert isinstance(outcome, Internal)
    net = network()
    with torch.no_grad():
        for i in range(net.config.blocks):
            net.block(i).lastconv.weight.fill_(float("nan"))
    sick = Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net, head_file(tmp_path)))
    outcomes = [run(sick, request(1, options=options)).outcomes[0] for options in (MIX, FLOW)]
    assert isinstance(outcomes[0], Internal)
    assert isinstance(outcomes[1], tuple)


def test_a_rollout_stops_where_nobody_waits_any_more() -> None:
    answers = iter([True, False])
    one = request(1, options=dataclasses.replace(FLOW, steps=5))
    (steps,) = FLOWING.run([DeviceWork(one)], lambda work: next(answers)).outcomes
    assert isinstance(steps, tuple)
    assert len(steps) == 2


def test_what_opencv_cannot_allocate_is_memory() -> None:
    words = "OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 99 bytes in function"
    assert classify(RuntimeError(words)) is Fault.MEMORY


def test_one_thread_or_two_predict_the_same_small_frame() -> None:
    previous, current = frames(5, 96, 160)
    fast = PredictRequest("threads", previous, current, FAST)
    try:
        torch.set_num_threads(2)
        (by_two,) = run(FLOWING, fast, live=True).outcomes
    finally:
        torch.set_num_threads(1)
    (by_one,) = run(FLOWING, fast, live=True).outcomes
    assert isinstance(by_one, tuple)
    assert isinstance(by_two, tuple)
    assert np.array_equal(by_one[0].frame.pixels, by_two[0].frame.pixels)


def test_a_warm_up_finds_out_by_how_many_threads_small_frames_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed_by: list[int] = []
    monkeypatch.setattr(MixingThreads, "choose", lambda self, mix_small: mixed_by.append(mix_small().shares.shape[0]))
    FLOWING.warm_up([])
    assert mixed_by == []
    FLOWING.warm_up([(32, 48)])
    assert mixed_by == [6]  # five candidates of the live head, and the detail


def test_warm_up_measures_every_method_and_the_live_head() -> None:
    table = list(FLOWING.warm_up([(32, 48)]))
    assert [(row.bucket.method, row.live) for row in table[-2:]] == [(Method.FLOW, False), (Method.FLOW, True)]
    assert all(row.bucket.method is Method.DMVFN for row in table[:-2])
    assert {row.load.pixels for row in table} == {32.0 * 48}
    assert all(row.seconds > 0 for row in table)


def test_weights_say_their_own_method_and_a_head_that_cannot_do_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    for method in ("flow", "mix"):
        checkpoint.save(network(), path, checkpoint.Metadata(method=method))
        settings = Settings(weights=path, head=head_file(tmp_path), device="cpu", threads=1)
        assert Predictor.of(settings).info.default_method is Method(method)
    with pytest.raises(CheckpointError, match="default method is mix, which the mixing head cannot do"):
        Predictor.of(Settings(weights=path, device="cpu", threads=1))
    with pytest.raises(CheckpointError, match="not a mixing head"):
        Predictor.of(Settings(head=path, device="cpu", threads=1))
    checkpoint.save(network(), path, checkpoint.Metadata())
    assert Predictor.of(Settings(weights=path, device="cpu", threads=1)).info.default_method is Method.DMVFN


def test_on_a_processor_the_shipped_weights_answer_by_flow_unless_an_operator_says_otherwise(tmp_path: Path) -> None:
    about = checkpoint.metadata(checkpoint.load())
    assert (about.default_on("cpu"), about.default_on("cuda")) == ("flow", "dmvfn")
    path = tmp_path / "like-ours.safetensors"
    checkpoint.save(network(), path, checkpoint.Metadata(method_on_cpu="flow"))
    settings = Settings(weights=path, device="cpu", threads=1)
    assert Predictor.of(settings).info.default_method is Method.FLOW
    assert Predictor.of(settings.replace(default_method="dmvfn")).info.default_method is Method.DMVFN
    # Without numba there are no mixtures: the weights are served as before there were any.
    assert Predictor(checkpoint.load(path), device="cpu", threads=1).info.default_method is Method.DMVFN
    with pytest.raises(CheckpointError, match="default method is mix, which the mixing head cannot do"):
        Predictor.of(settings.replace(default_method="mix"))


def test_a_model_tells_its_head_and_what_that_is_worth() -> None:
    _, about = weights.load()
    assert FLOWING.info.head == about.version
    assert FLOWING.info.scores["psnr_t1_flow"] == about.scores["psnr_t1"] > 29
    assert device().info.scores.keys() >= {"psnr_t3_flow", "ms_ssim_t1_flow", "ms_ssim_t3_flow"}


async def test_where_the_weights_say_flow_only_what_names_the_network_gets_it() -> None:
    net = network()
    net.metadata = checkpoint.Metadata(config=net.config, method="flow")
    flowing = Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net))
    full = request(8, options=Options(RouteChoice.parse("full")))
    (by_flow,), (by_network,) = steps_of(run(flowing, request(8))), steps_of(run(flowing, full))
    assert (by_flow.method, by_network.method) == (Method.FLOW, Method.DMVFN)
    assert by_flow.frame.pixels.tobytes() == steps_of(run(FLOWING, request(8, options=FLOW)))[0].frame.pixels.tobytes()
    assert by_network.frame.pixels.tobytes() == steps_of(run(predictor(), full))[0].frame.pixels.tobytes()
    async with batching(flowing) as batcher:
        assert (await batcher.predict(request(8))).method is Method.FLOW
        assert (await batcher.predict(full)).method is Method.DMVFN
        live = dataclasses.replace(request(8), options=LIVE, deadline=batcher._clock() + 60)
        assert (await batcher.predict(live)).method is Method.FLOW


# --- through the batcher --------------------------------------------------------------------------------------------


async def test_flow_goes_through_the_batcher_with_its_times_and_counts() -> None:
    metrics = Metrics(CollectorRegistry())
    async with batching(FLOWING, metrics=metrics) as batcher:
        one = request(5, options=FLOW)
        answer = await batcher.predict(one)
        await batcher.predict(request(5))
        with pytest.raises(InvalidRequest, match="method mix"):
            await batcher.predict(request(5, options=MIX))
        with pytest.raises(DeadlineExceeded):
            await batcher.predict(request(5, options=dataclasses.replace(FLOW, steps=9), deadline=0.0))
    assert same(answer, dataclasses.replace(answer, steps=steps_of(run(FLOWING, one))))
    assert (answer.method, answer.shortened, answer.timings.blocks, answer.timings.route) == (Method.FLOW, False, 0, 0)
    assert answer.timings.motion > 0
    assert answer.timings.mixing > 0
    assert sum(answer.shares.values()) == pytest.approx(1, abs=1e-5)
    assert count(metrics, "predictions_total", method="flow") == 1
    assert count(metrics, "predictions_total", method="dmvfn") == 1
    assert count(metrics, "mixture_flops_total") == answer.flops
    assert count(metrics, "stage_duration_seconds_count", stage="motion") == 1
    assert count(metrics, "stage_duration_seconds_count", stage="blocks") == 1


def priced(block_seconds: float, live_seconds: float) -> Rigged:
    """A device whose warm-up says that a block takes so long and the live head so long."""
    rigged, bucket = Rigged(FLOWING), Bucket(32, 48, 1.0)
    rows = []
    for row in FLOWING.warm_up([(32, 48)]):
        if row.live:
            rows.append(dataclasses.replace(row, seconds=live_seconds))
        elif row.bucket == bucket:
            runs = sum(row.load.blocks) / bucket.pixels
            rows.append(dataclasses.replace(row, seconds=block_seconds * max(runs, 1)))
        else:
            rows.append(MeasuredRun(row.bucket, mixture_load(row.bucket, 1), 1.0))
    rigged.table = rows
    return rigged


async def test_an_adaptive_request_gets_the_live_head_where_one_block_would_be_late() -> None:
    metrics, slow = Metrics(CollectorRegistry()), priced(50.0, 0.01)
    async with batching(slow, metrics=metrics) as batcher:
        loop_time = batcher._clock()
        one = request(6, options=LIVE, deadline=loop_time + 20)
        answer = await batcher.predict(one)
        with pytest.raises(DeadlineExceeded):
            await batcher.predict(request(6, deadline=batcher._clock() + 20))
        by_network = dataclasses.replace(LIVE, method=Method.DMVFN)
        with pytest.raises(DeadlineExceeded):
            await batcher.predict(request(7, options=by_network, deadline=batcher._clock() + 20))
    head, about = weights.load(weights.LIVE)
    expected = mixing.mix(one.previous.pixels, one.current.pixels, None, head, about)
    assert (answer.shortened, answer.method, answer.steps[0].route) == (True, Method.FLOW, (False,) * 9)
    assert answer.steps[0].frame.pixels.tobytes() == mixing.rounded(expected.frame).tobytes()
    assert count(metrics, "routes_shortened_total") == 1
    assert slow.routed == [], "no time is spent on a route that nobody can wait for"


async def test_an_adaptive_request_with_time_gets_the_network_as_ever() -> None:
    async with batching(priced(0.01, 0.001)) as batcher:
        answer = await batcher.predict(request(6, options=LIVE, deadline=batcher._clock() + 60))
    assert (answer.shortened, answer.method) == (False, Method.DMVFN)
    assert same(answer, dataclasses.replace(answer, steps=steps_of(run(predictor(), request(6)))))


async def test_fast_is_the_live_head_whatever_the_deadline_and_is_priced_as_such() -> None:
    metrics, slow = Metrics(CollectorRegistry()), priced(0.01, 0.01)
    one, fast = request(6, options=FAST), dataclasses.replace(FAST, steps=2)
    async with batching(slow, metrics=metrics) as batcher:
        # Flow takes a second here by the warm-up's word, the live head a hundredth.
        pair = await batcher.predict(request(6, options=fast, deadline=batcher._clock() + 0.9))
        answer = await batcher.predict(one)
    head, about = weights.load(weights.LIVE)
    expected = mixing.mix(one.previous.pixels, one.current.pixels, None, head, about)
    assert (answer.shortened, answer.method, len(pair.steps)) == (False, Method.FLOW, 2)
    assert answer.steps[0].frame.pixels.tobytes() == mixing.rounded(expected.frame).tobytes()
    assert count(metrics, "routes_shortened_total") == 0


async def test_flow_itself_may_be_shortened_to_the_live_head() -> None:
    async with batching(priced(0.01, 0.01)) as batcher:
        flow = dataclasses.replace(LIVE, method=Method.FLOW)
        answer = await batcher.predict(request(6, options=flow, deadline=batcher._clock() + 0.9))
    assert (answer.shortened, answer.method) == (True, Method.FLOW)
    assert set(answer.shares) == set(weights.load(weights.LIVE)[0].config.candidates)
