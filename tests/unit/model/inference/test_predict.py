"""Routed inference: neighbours change nothing, any size works, scales and pads are undone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.dmvfn.network import DMVFN
from model.inference import padding
from model.inference import predict as inference


def _pairs(count: int, height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    previous = torch.rand(count, 3, height, width, generator=generator)
    current = (previous.roll((1, 2), (2, 3)) + 0.05 * torch.rand(previous.shape, generator=generator)).clamp(0, 1)
    return previous, current


routes = st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=2, max_size=4).map(torch.tensor)


@settings(max_examples=25, deadline=None)
@given(routes, st.sampled_from([(16, 16), (32, 48), (17, 35)]), st.integers(0, 99))
def test_a_sample_alone_equals_itself_in_any_batch(
    tiny_network: DMVFN, rows: torch.Tensor, size: tuple[int, int], seed: int
) -> None:
    previous, current = _pairs(len(rows), *size, seed)
    together = inference.predict(tiny_network, previous, current, rows)
    for i in range(len(rows)):
        alone = inference.predict(tiny_network, previous[i : i + 1], current[i : i + 1], rows[i : i + 1])
        torch.testing.assert_close(together.frame[i], alone.frame[0], atol=2e-5, rtol=0)
        torch.testing.assert_close(together.flow[i], alone.flow[0], atol=1e-4, rtol=0)


def test_inference_equals_the_training_forward_gated_by_the_same_route(tiny_network: DMVFN) -> None:
    previous, current = _pairs(3, 32, 48, 1)
    rows = torch.tensor([[True] * 9, [True, False] * 4 + [True], [False] * 8 + [True]])
    answer = inference.predict(tiny_network, previous, current, rows)
    with torch.no_grad():
        published = tiny_network(previous, current, rows.float())
    torch.testing.assert_close(answer.frame, published.frames[-1], atol=2e-5, rtol=0)
    torch.testing.assert_close(answer.mask, published.mask, atol=1e-4, rtol=0)


def test_an_empty_route_answers_the_current_frame(tiny_network: DMVFN) -> None:
    previous, current = _pairs(2, 32, 32, 3)
    rows = torch.zeros(2, 9, dtype=torch.bool)
    rows[1, 0] = True
    assert torch.equal(inference.predict(tiny_network, previous, current, rows).frame[0], current[0])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_pairs_that_take_turns_are_each_predicted_from_their_own_frames(tiny_network: DMVFN, scale: float) -> None:
    """Whatever was loaded for the last one routed."""
    rows = torch.ones(2, 9, dtype=torch.bool)
    batches = [_pairs(2, 32, 48, 5), _pairs(2, 32, 48, 6), _pairs(2, 17, 35, 7)]
    expected = [inference.predict(tiny_network, *frames, rows, scale) for frames in batches]
    likely = [inference.probabilities(tiny_network, *frames, scale) for frames in batches]
    pairs = [inference.FramePairs(tiny_network, *frames, scale) for frames in batches]
    for order in ((0, 1, 2), (2, 0, 1)):
        for i in order:
            assert torch.equal(pairs[i].probabilities(), likely[i])
            assert torch.equal(pairs[i].probabilities([1]), likely[i][1:])
        for i in reversed(order):
            assert torch.equal(pairs[i].predict(rows).frame, expected[i].frame)


def test_padding_repeats_the_border_and_is_cropped_away(tiny_network: DMVFN) -> None:
    previous, current = _pairs(1, 19, 45, 4)
    rows = torch.ones(1, 9, dtype=torch.bool)
    answer = inference.predict(tiny_network, previous, current, rows)
    by_hand = inference.predict(tiny_network, padding.pad(previous), padding.pad(current), rows)
    assert answer.frame.shape == (1, 3, 19, 45)
    torch.testing.assert_close(answer.frame, by_hand.frame[..., :19, :45], atol=2e-5, rtol=0)
    assert torch.equal(padding.pad(previous)[..., 31, 47], previous[..., 18, 44])


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_a_reduced_scale_estimates_flow_small_and_answers_full_size(tiny_network: DMVFN, scale: float) -> None:
    previous, current = _pairs(2, 66, 130, 5)
    rows = torch.ones(2, 9, dtype=torch.bool)
    answer = inference.predict(tiny_network, previous, current, rows, scale)
    assert answer.frame.shape == previous.shape
    assert answer.flow.shape == (2, 4, 66, 130)


def test_a_reduced_scale_keeps_the_speed_of_motion(tiny_network: DMVFN) -> None:
    """Flow is in pixels of the full frame whatever the scale: a constant increment is multiplied by 1/scale."""
    network = DMVFN(tiny_network.config).eval()
    with torch.no_grad():
        for parameter in network.block(0).lastconv.parameters():
            parameter.zero_()
        bias = network.block(0).lastconv.bias
        assert bias is not None
        bias[:4] = torch.tensor([1.0, -2.0, 3.0, 0.5])
    previous, current = _pairs(1, 64, 64, 6)
    first = torch.tensor([[True] + [False] * 8])
    whole, half = (inference.predict(network, previous, current, first, scale).flow for scale in (1.0, 0.5))
    torch.testing.assert_close(half, 2 * whole)


def test_wrong_shapes_and_scales_are_refused_by_name(tiny_network: DMVFN) -> None:
    previous, current = _pairs(1, 16, 16, 7)
    with pytest.raises(ValueError, match="routes must be bool 1x9"):
        inference.predict(tiny_network, previous, current, torch.ones(1, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="Bx3xHxW"):
        inference.predict(tiny_network, previous, current[..., :8], torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="scale"):
        inference.predict(tiny_network, previous, current, torch.ones(1, 9, dtype=torch.bool), 0.3)
