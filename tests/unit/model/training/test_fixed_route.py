"""The fixed-route forward equals the published training forward with the same gates."""

from __future__ import annotations

import torch

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.inference import predict as inference
from model.training import fixed_route


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.rand(2, 2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    return frames[0], frames[1]


def _network() -> DMVFN:
    torch.manual_seed(1)
    return DMVFN(ModelConfig.tiny())


def test_all_blocks_equal_the_published_training_forward() -> None:
    network, (previous, current) = _network(), _pair()
    published = network(previous, current, torch.ones(2, 9))
    steps = fixed_route.run(network, previous, current, range(9))
    torch.testing.assert_close(steps[-1].flow, published.flow, atol=1e-5, rtol=0)
    for step, frame in zip(steps, published.frames, strict=True):
        torch.testing.assert_close(step.frame, frame, atol=1e-5, rtol=0)


def test_a_partial_route_equals_inference_along_it() -> None:
    network, (previous, current) = _network(), _pair()
    route = torch.tensor([[i in (0, 3, 6) for i in range(9)]] * 2)
    steps = fixed_route.run(network, previous, current, (0, 3, 6))
    torch.testing.assert_close(
        steps[-1].frame, inference.predict(network, previous, current, route).frame, atol=1e-5, rtol=0
    )


def test_gradients_reach_the_chosen_blocks_only() -> None:
    network, (previous, current) = _network(), _pair()
    fixed_route.run(network, previous, current, (0, 6))[-1].frame.mean().backward()  # type: ignore[no-untyped-call]
    reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"block0", "block6"}
