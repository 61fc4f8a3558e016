"""One device: uint8 frames in, uint8 frames out, each request as if it were alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model import checkpoint
from model import flops as model_flops
from model.checkpoint import Metadata
from model.dmvfn.network import DMVFN
from model.inference import predict as inference
from service.core.bucket import Bucket
from service.core.errors import Internal
from service.core.types import Frame, Options, PredictRequest, RouteChoice, RoutePolicy, Step
from service.engine.device import DeviceWork, bucket_of
from service.engine.predictor import Predictor, cores
from service.settings import Settings
from tests.unit.engine.tiny import network, predictor, request

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
FULL = Options(RouteChoice(RoutePolicy.FULL))
DEVICE = predictor()
TOGETHER = predictor(rows_per_call=64)


def run(device: Predictor, *requests: PredictRequest) -> list[tuple[Step, ...]]:
    outcomes = device.run([DeviceWork(asked) for asked in requests], lambda work: True).outcomes
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, tuple)]


def pixels(frame: Frame) -> torch.Tensor:
    return torch.from_numpy(frame.pixels.copy()).permute(2, 0, 1).float().div(255)[None]


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_the_answer_is_the_networks_rounded_not_truncated() -> None:
    asked = request(1, options=FULL)
    ((step,),) = run(DEVICE, asked)
    exact = inference.predict(
        network(), pixels(asked.previous), pixels(asked.current), torch.ones(1, 9, dtype=torch.bool)
    ).frame
    rounded = exact[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(step.frame.pixels, rounded)
    assert not np.array_equal(rounded, exact[0].mul(255).to(torch.uint8).permute(1, 2, 0).numpy())


def test_a_size_that_is_no_multiple_of_the_stride_is_answered_in_its_own_size() -> None:
    asked = request(2, 45, 71, options=FULL)
    ((step,),) = run(DEVICE, asked)
    exact = inference.predict(
        network(), pixels(asked.previous), pixels(asked.current), torch.ones(1, 9, dtype=torch.bool)
    ).frame
    # Padding before rather than inside the network samples the same points in another floating-point order.
    assert difference(step.frame.pixels, exact[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()) <= 1


def test_weights_that_want_bgr_get_bgr_and_the_caller_sees_rgb() -> None:
    net = network()
    net.metadata = Metadata(colour_order="BGR", config=net.config)
    asked = request(3, options=FULL)
    ((step,),) = run(Predictor(net, device="cpu", threads=1), asked)
    mirrored = [Frame(np.ascontiguousarray(frame.pixels[:, :, ::-1])) for frame in (asked.previous, asked.current)]
    ((plain,),) = run(DEVICE, dataclasses.replace(asked, previous=mirrored[0], current=mirrored[1]))
    assert np.array_equal(step.frame.pixels, plain.frame.pixels[:, :, ::-1])


def test_auto_draws_nothing_a_pair_has_one_route_and_one_answer() -> None:
    asked = [request(seed, options=Options(steps=3)) for seed in range(8)]
    answers = run(DEVICE, *asked)
    assert len({step.route for steps in answers for step in steps}) > 1  # or any choice would pass
    with torch.random.fork_rng():
        torch.manual_seed(1234)
        again = run(predictor(), *asked)  # as another process would
    for first, second in zip(answers, again, strict=True):
        assert [step.route for step in first] == [step.route for step in second]
        assert all(np.array_equal(a.frame.pixels, b.frame.pixels) for a, b in zip(first, second, strict=True))


options = st.builds(
    lambda route, steps, maps: Options(route, steps=steps, maps=maps),
    st.sampled_from(
        [
            RouteChoice(),
            RouteChoice(RoutePolicy.FULL),
            RouteChoice(RoutePolicy.SAMPLE, seed=5),
            RouteChoice(RoutePolicy.BUDGET, blocks=2),
            RouteChoice.parse("010010001"),
        ]
    ),
    st.integers(1, 3),
    st.booleans(),
)
crowds = st.lists(
    st.tuples(st.integers(0, 50), st.integers(33, 48), st.integers(17, 32), options), min_size=2, max_size=5
)


@given(crowds)
@settings(max_examples=12, deadline=None)
def test_on_a_cpu_a_request_gets_the_same_bits_alone_and_in_any_batch(
    crowd: list[tuple[int, int, int, Options]],
) -> None:
    asked = [request(seed, height, width, options=how) for seed, height, width, how in crowd]
    for one, together in zip(asked, run(DEVICE, *asked), strict=True):
        (alone,) = run(DEVICE, one)
        assert [step.route for step in together] == [step.route for step in alone]
        for a, b in zip(together, alone, strict=True):
            assert np.array_equal(a.frame.pixels, b.frame.pixels)
            assert a.flops == b.flops


@given(crowds)
@settings(max_examples=12, deadline=None)
def test_where_a_batch_goes_through_the_network_together_no_pixel_differs_by_more_than_one_level(
    crowd: list[tuple[int, int, int, Options]],
) -> None:
    asked = [request(seed, height, width, options=how) for seed, height, width, how in crowd]
    for one, together in zip(asked, run(TOGETHER, *asked), strict=True):
        (alone,) = run(TOGETHER, one)
        assert [step.route for step in together] == [step.route for step in alone]
        assert all(difference(a.frame.pixels, b.frame.pixels) <= 1 for a, b in zip(together, alone, strict=True))


def test_several_steps_are_chained_on_unrounded_frames() -> None:
    asked = request(4, options=dataclasses.replace(FULL, steps=3))
    (steps,) = run(DEVICE, asked)
    previous, current = pixels(asked.previous), pixels(asked.current)
    for step in steps:
        previous, current = (
            current,
            inference.predict(network(), previous, current, torch.ones(1, 9, dtype=torch.bool)).frame,
        )
        assert np.array_equal(step.frame.pixels, current[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    assert len(steps) == 3


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_flow_can_be_estimated_on_smaller_frames(scale: float) -> None:
    asked = request(5, 64, 128, options=dataclasses.replace(FULL, scale=scale, maps=True))
    ((step,),) = run(DEVICE, asked)
    exact = inference.predict(
        network(), pixels(asked.previous), pixels(asked.current), torch.ones(1, 9, dtype=torch.bool), scale
    )
    assert np.array_equal(step.frame.pixels, exact.frame[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    assert step.flops == 2 * model_flops.count(
        int(64 * scale), int(128 * scale), (True,) * 9, network().config, with_routing=False
    )


def test_maps_come_only_when_asked_for_and_have_the_frames_size() -> None:
    ((plain,),) = run(DEVICE, request(6, 45, 71, options=FULL))
    ((step,),) = run(DEVICE, request(6, 45, 71, options=dataclasses.replace(FULL, maps=True)))
    assert (plain.flow, plain.mask) == (None, None)
    assert step.flow is not None
    assert step.mask is not None
    assert (step.flow.shape, step.mask.shape) == ((45, 71, 4), (45, 71))
    assert step.flow.dtype == step.mask.dtype == np.float32
    assert 0 <= step.mask.min() <= step.mask.max() <= 1


def test_one_item_whose_values_are_not_finite_fails_and_its_neighbours_do_not() -> None:
    """Weights that overflow on one picture only: a picture's brightness decides."""
    for device in (Predictor(_overflowing(), device="cpu", threads=1, rows_per_call=n) for n in (1, 8)):
        dark = request(7, options=FULL)
        bright = dataclasses.replace(
            dark,
            previous=Frame(np.full((32, 48, 3), 255, np.uint8)),
            current=Frame(np.full((32, 48, 3), 255, np.uint8)),
        )
        black = dataclasses.replace(
            dark, previous=Frame(np.zeros((32, 48, 3), np.uint8)), current=Frame(np.zeros((32, 48, 3), np.uint8))
        )
        outcomes = device.run([DeviceWork(black), DeviceWork(bright), DeviceWork(black)], lambda work: True).outcomes
        assert [isinstance(outcome, Internal) for outcome in outcomes] == [False, True, False]


def _overflowing() -> DMVFN:
    net = network()
    with torch.no_grad():
        for parameter in net.block(0).parameters():
            parameter.zero_()
        for name, value in (
            ("conv1.0.0.weight", 3e37),
            ("conv1.0.1.weight", 1.0),
            ("convblock1.0.0.weight", 3e37),
            ("convblock1.0.1.weight", 1.0),
            ("lastconv.weight", 1.0),
        ):
            net.block(0).get_parameter(name).fill_(value)
    return net


def test_flops_are_two_per_multiply_add_of_routing_and_chosen_blocks_at_the_padded_size() -> None:
    asked = request(8, 45, 71)
    ((step,),) = run(DEVICE, asked)
    assert step.flops == 2 * model_flops.count(48, 80, step.route, network().config)
    parts = DEVICE.flops(bucket_of(asked))
    chosen = sum(f for f, runs in zip(parts.blocks, step.route, strict=True) if runs)
    assert step.flops == parts.routing + chosen


def test_routing_that_is_not_needed_is_neither_run_nor_counted() -> None:
    asked = request(9, options=Options(RouteChoice.parse("100000000")))
    ran = DEVICE.run([DeviceWork(asked)], lambda work: True)
    assert ran.load.routing_pixels == 0
    (outcome,) = ran.outcomes
    assert isinstance(outcome, tuple)
    assert outcome[0].flops == DEVICE.flops(bucket_of(asked)).blocks[0]


def test_the_load_of_a_run_is_what_was_run() -> None:
    route = (True,) + (False,) * 8
    works = [DeviceWork(request(1, options=Options(steps=2)), route), DeviceWork(request(2, options=FULL))]
    load = DEVICE.run(works, lambda work: True).load
    pixels_ = 32 * 48
    assert (load.passes, load.pixels, load.routing_pixels) == (2, 3 * pixels_, 1 * pixels_)
    assert load.blocks[0] >= 2 * pixels_
    assert all(blocks >= pixels_ for blocks in load.blocks)


def test_routes_chosen_ahead_are_the_routes_chosen_on_the_way() -> None:
    asked = [request(seed) for seed in range(6)]
    ahead = [choice.route for choice in DEVICE.routes(asked)]
    assert ahead == [steps[0].route for steps in run(DEVICE, *asked)]
    assert len(set(ahead)) > 1


@pytest.mark.parametrize("rows", [1, 8])
def test_works_nobody_wants_any_more_come_back_with_what_they_got(rows: int) -> None:
    device = predictor(rows_per_call=rows)
    works = [DeviceWork(request(seed, options=dataclasses.replace(FULL, steps=3))) for seed in range(3)]
    ran = device.run(works, lambda work: work is not works[1])
    lengths = [len(outcome) for outcome in ran.outcomes if isinstance(outcome, tuple)]
    assert (lengths[0], lengths[2]) == (3, 3)
    assert lengths[1] <= 1


def test_frames_given_by_the_caller_are_not_written_to() -> None:
    asked = request(10, 45, 71)
    before = (asked.previous.pixels.copy(), asked.current.pixels.copy())
    run(TOGETHER, asked, request(11, 48, 80))
    assert np.array_equal(before[0], asked.previous.pixels)
    assert np.array_equal(before[1], asked.current.pixels)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_smaller_types_answer_nearly_the_same_frame(dtype: str) -> None:
    asked = request(12, options=dataclasses.replace(FULL, maps=True))
    ((small,),) = run(predictor(dtype=dtype), asked)
    ((exact,),) = run(DEVICE, asked)
    assert small.flow is not None
    assert small.flow.dtype == np.float32
    assert np.abs(small.frame.pixels.astype(int) - exact.frame.pixels).mean() < 1.5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_with_our_weights_smaller_types_stay_within_50_decibels_of_float32(dtype: str) -> None:
    # The middle quarter: a processor takes seconds for a whole frame in float16.
    pictures = (Image.open(SAMPLES / f"frame0{time}.png").convert("RGB") for time in (4, 5))
    before, after = (np.ascontiguousarray(np.array(picture)[64:192, 112:336]) for picture in pictures)
    asked = PredictRequest("real", Frame(before), Frame(after), options=FULL)
    frames = []
    for kind in ("float32", dtype):
        device = Predictor.of(Settings(device="cpu", threads=1, dtype=kind))
        ((step,),) = run(device, asked)
        frames.append(step.frame.pixels / 255.0)
    exact, small = frames
    decibels = -10 * np.log10(np.square(exact - small).mean())
    print(f"{dtype}: {decibels:.1f} dB against float32")
    assert decibels >= 50


def test_warming_up_measures_every_size_with_few_and_many_blocks() -> None:
    table = list(DEVICE.warm_up([(32, 48), (45, 71)]))
    assert {row.bucket for row in table} == {Bucket(32, 48, 1.0), Bucket(48, 80, 1.0)}
    assert all(row.seconds > 0 for row in table)
    assert len({row.load for row in table}) == len(table)


def test_it_tells_what_it_serves(tmp_path: Path) -> None:
    net = network()
    about = Metadata("v7", "BGR", "clips of ours", {"psnr_t1": 27.0, "psnr_t1_repeat": 24.0})
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(net, path, about)
    info = Predictor.of(Settings(weights=path, device="cpu", threads=1)).info
    assert (info.version, info.colour_order, info.training_data) == ("v7", "BGR", "clips of ours")
    assert (info.device, info.dtype, len(info.sha256), info.warning) == ("cpu", "float32", 64, None)
    assert info.parameters == sum(p.numel() for p in net.parameters())


def test_this_process_may_use_at_least_one_core() -> None:
    assert cores() >= 1
