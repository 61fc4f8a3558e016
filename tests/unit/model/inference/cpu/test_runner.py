"""The prepared CPU path answers what plain torch answers, notices changed weights, and keeps out of others' way."""

from __future__ import annotations

import threading

import pytest
import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.dmvfn.warp import blend, warp
from model.inference import predict as inference
from model.inference import torch_path
from model.inference.cpu import runner as cpu_runner

pytest.importorskip("numba")


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
