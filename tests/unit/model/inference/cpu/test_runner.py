"""The prepared CPU path answers what plain torch answers, notices changed weights, and keeps out of others' way."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model import checkpoint
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.dmvfn.warp import blend, warp
from model.inference import predict as inference
from model.inference import torch_path
from model.inference.cpu import runner as cpu_runner
from model.inference.cpu.runner import CpuRunner

pytest.importorskip("numba")

from model.inference.cpu import precision
from model.inference.cpu.precision import Arithmetic
from tests.golden import vectors
from tests.unit.model.inference.cpu.kinds import HALVES


@pytest.fixture(params=HALVES)
def bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Arithmetic:
    """Have bfloat16 multiplied in one way or the other."""
    arithmetic: Arithmetic = request.param
    monkeypatch.setattr(precision, "bfloat16", lambda: arithmetic)
    return arithmetic


def _pair(height: int, width: int, count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    previous = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height + width))
    return previous, previous.roll((1, 2), (2, 3))


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (48, 80)])
@pytest.mark.parametrize("bits", ["111111111", "100000000", "000010000", "000000001", "010010010", "001001100"])
def test_every_first_block_and_size_equals_plain_torch(tiny_network: DMVFN, size: tuple[int, int], bits: str) -> None:
    previous, current = _pair(*size)
    route = torch.tensor([[bit == "1" for bit in bits]])
    ready = cpu_runner.of(tiny_network, previous, current)
    assert ready is not None
    with torch.inference_mode():
        flow, mask = torch_path.estimate(tiny_network, previous, current, route)
        frame = blend(warp(previous, flow[:, :2]), warp(current, flow[:, 2:]), mask)
        probabilities = tiny_network.routing_probabilities(previous, current)
    answer = ready.predict(previous, current, route.tolist())
    torch.testing.assert_close(answer.flow, flow, atol=1e-4, rtol=0)
    torch.testing.assert_close(answer.mask, mask, atol=1e-4, rtol=0)
    torch.testing.assert_close(answer.frame, frame, atol=2e-5, rtol=0)
    torch.testing.assert_close(ready.probabilities(previous, current), probabilities, atol=5e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (13, 30), (16, 33)])
def test_whole_frames_of_any_size_are_warped_and_mixed(tiny_network: DMVFN, size: tuple[int, int]) -> None:
    previous, current = _pair(*size, count=2)
    flow, mask = 5 * torch.randn(2, 4, *size), 30 * torch.randn(2, 1, *size)
    ready = cpu_runner.of(tiny_network, previous, current)
    assert ready is not None
    frame = ready.blend(previous, current, flow, mask)
    expected = blend(warp(previous, flow[:, :2]), warp(current, flow[:, 2:]), mask)
    torch.testing.assert_close(frame, expected, atol=1e-5, rtol=0)


def test_a_network_is_prepared_once_and_again_after_its_weights_changed() -> None:
    network = DMVFN(ModelConfig.tiny()).eval()
    first = cpu_runner.of(network)
    assert cpu_runner.of(network) is first
    previous, current = _pair(16, 16)
    route = torch.ones(1, 9, dtype=torch.bool)
    before = inference.predict(network, previous, current, route)
    with torch.no_grad():
        bias = network.block(8).lastconv.bias
        assert bias is not None
        bias[4] += 1.0
    after = inference.predict(network, previous, current, route)
    assert cpu_runner.of(network) is not first
    torch.testing.assert_close(after.mask, before.mask + 1.0)


def test_neighbours_and_earlier_sizes_leave_no_trace(tiny_network: DMVFN) -> None:
    previous, current = _pair(32, 48, 3)
    routes = torch.tensor([[True] * 9, [False] * 9, [True, False, True] * 3])
    alone = [
        inference.predict(tiny_network, previous[i : i + 1], current[i : i + 1], routes[i : i + 1]) for i in range(3)
    ]
    inference.predict(tiny_network, *_pair(80, 96), routes[:1])
    together = inference.predict(tiny_network, previous, current, routes)
    assert torch.equal(together.frame, torch.cat([answer.frame for answer in alone]))
    assert torch.equal(together.flow, torch.cat([answer.flow for answer in alone]))


def test_two_threads_get_their_own_answers(tiny_network: DMVFN) -> None:
    pairs = [_pair(16, 32), _pair(48, 48)]
    route = torch.ones(1, 9, dtype=torch.bool)
    expected = [inference.predict(tiny_network, *pair, route).frame for pair in pairs]
    answers: list[list[torch.Tensor]] = [[], []]

    def run(index: int) -> None:
        for _ in range(5):
            answers[index].append(inference.predict(tiny_network, *pairs[index], route).frame)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(frame, expected[i]) for i in range(2) for frame in answers[i])
    assert [len(frames) for frames in answers] == [5, 5]


def test_other_types_and_wider_variants_run_in_plain_torch(tiny_network: DMVFN) -> None:
    previous, current = _pair(16, 16)
    assert cpu_runner.of(tiny_network, previous.double(), current.double()) is None
    assert cpu_runner.of(DMVFN(ModelConfig.tiny()).double()) is None
    wide = ModelConfig(scales=(1,), widths=(8,), spatial_width=16, routing_width=8)
    network = DMVFN(wide).eval()
    assert cpu_runner.of(network) is None
    answer = inference.predict(network, previous, current, torch.ones(1, 1, dtype=torch.bool))
    assert answer.frame.shape == previous.shape


def test_without_numba_plain_torch_answers_the_same(tiny_network: DMVFN, monkeypatch: pytest.MonkeyPatch) -> None:
    previous, current = _pair(33, 47, 2)
    routes = torch.tensor([[True] * 9, [False] * 8 + [True]])
    fast = [inference.predict(tiny_network, previous, current, routes, scale) for scale in (1.0, 0.5)]
    monkeypatch.setattr(cpu_runner, "available", lambda config: False)
    slow = [inference.predict(tiny_network, previous, current, routes, scale) for scale in (1.0, 0.5)]
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one.frame, other.frame, atol=2e-5, rtol=0)
        torch.testing.assert_close(one.flow, other.flow, atol=2e-4, rtol=0)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    "case", [name for name, case in vectors.meta()["cases"].items() if "1" in case.get("route", "")]
)
def test_golden_frames_in_bfloat16_are_the_published_ones_to_50_db(case: str) -> None:
    about = vectors.meta()["cases"][case]
    pair = vectors.tensor(f"in.{about['input']}.x")[None]
    route = torch.tensor([[bit == "1" for bit in about["route"]]])
    with torch.autocast("cpu", torch.bfloat16):
        answer = inference.predict(vectors.network(), pair[:, :3], pair[:, 3:], route)
    error = (answer.frame[0] - vectors.tensor(f"{case}.pred")).square().mean()
    assert -10 * error.log10() > 50


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("seed", [0, 2])
def test_a_fast_pan_in_bfloat16_is_that_of_float32_to_50_db(seed: int) -> None:
    """Flow of 30 pixels is an input of the first convolutions, and bfloat16 has eight bits."""
    network, route = checkpoint.load(), torch.ones(1, 9, dtype=torch.bool)
    noise = torch.Generator().manual_seed(seed)
    scene = torch.zeros(1, 3, 512, 512)
    for side in (2, 4, 8, 16, 32):
        grains = torch.rand(1, 3, 512 // side, 512 // side, generator=noise)
        scene += side / 62 * F.interpolate(grains, size=(512, 512), mode="bicubic")
    previous, current = (
        scene[:, :, y : y + 256, x : x + 256].clamp(0, 1).contiguous() for y, x in ((96, 96), (112, 128))
    )
    whole = inference.predict(network, previous, current, route)
    with torch.autocast("cpu", torch.bfloat16):
        half = inference.predict(network, previous, current, route)
    assert whole.flow.abs().max() > 25
    assert -10 * (half.frame - whole.frame).square().mean().log10() > 50


@pytest.mark.usefixtures("bfloat16")
def test_both_types_are_prepared_beside_each_other(tiny_network: DMVFN) -> None:
    whole = cpu_runner.of(tiny_network)
    with torch.autocast("cpu", torch.bfloat16):
        half = cpu_runner.of(tiny_network)
    assert None is not half is not whole
    assert cpu_runner.of(tiny_network) is whole
    with torch.autocast("cpu", torch.bfloat16):
        assert cpu_runner.of(tiny_network) is half
    with torch.autocast("cpu", torch.float16):
        assert cpu_runner.of(tiny_network) is None


@pytest.mark.usefixtures("bfloat16")
def test_an_answer_in_bfloat16_is_the_same_bit_for_bit_by_any_number_of_threads(tiny_network: DMVFN) -> None:
    pair, route, before = _pair(48, 80), torch.ones(1, 9, dtype=torch.bool), torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.autocast("cpu", torch.bfloat16):
                answers.append(inference.predict(tiny_network, *pair, route).frame)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*answers)


def test_a_pair_that_is_routed_and_predicted_is_loaded_once(tiny_network: DMVFN) -> None:
    ready = CpuRunner(tiny_network)
    frames, load = [], ready._loops.load

    def counted(*arguments: Any) -> None:
        frames.append(arguments[0])
        load(*arguments)

    ready._loops = dataclasses.replace(ready._loops, load=counted)
    previous, current = _pair(32, 48)
    key, routes = object(), [[True] * 9]
    ready.probabilities(previous, current, key)
    ready.predict(previous, current, routes, key)
    assert len(frames) == 1
    ready.blend(previous, current, torch.zeros(1, 4, 32, 48), torch.zeros(1, 1, 32, 48))
    ready.predict(previous, current, routes, key)
    ready.predict(previous, current, routes)
    assert len(frames) == 4
