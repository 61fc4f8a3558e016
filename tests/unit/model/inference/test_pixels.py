"""uint8 pictures and tensors: exact both ways, in either order of colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.inference import pixels


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways: by compiled loops, and as without numba."""
    if request.param == "torch":
        monkeypatch.setattr(pixels, "_compiled_loops", lambda: None)
    return str(request.param)


def every_value() -> torch.Tensor:
    """1x16x16x3 with each of 256 values in each colour."""
    values = torch.arange(256, dtype=torch.uint8)
    return torch.stack((values, values.flip(0), values.roll(7)), 1).view(1, 16, 16, 3)


@pytest.mark.parametrize("bgr", [False, True])
def test_there_and_back_is_the_same_picture(bgr: bool) -> None:
    pictures = every_value()
    there = pixels.normalise(pictures, bgr=bgr)
    assert torch.equal(pixels.to_pictures(there, bgr=bgr), pictures)
    assert torch.equal(pixels.to_pictures(there[0], bgr=bgr), pictures[0])


def test_bgr_puts_blue_first() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 1, 1, 3)
    assert pixels.normalise(red, bgr=True).flatten().tolist() == [0.0, 0.0, 1.0]


def test_values_are_rounded_and_clamped_and_the_frame_is_left_alone() -> None:
    frame = torch.tensor([-0.1, 0.5, 1.2]).view(3, 1, 1)
    assert pixels.to_pictures(frame).flatten().tolist() == [0, 128, 255]
    assert frame.flatten().tolist() == pytest.approx([-0.1, 0.5, 1.2])


@pytest.mark.parametrize("bgr", [False, True])
def test_both_ways_give_the_same_numbers(way: str, monkeypatch: pytest.MonkeyPatch, bgr: bool) -> None:
    pictures = every_value()[:, :, ::2]  # as a part of a larger one has its strides
    frames = torch.randn(2, 3, 9, 21) + torch.arange(21) / 510  # halves among them, and what exceeds 0..1
    frames = frames[..., 2:]
    here = (
        pixels.normalise(pictures, bgr=bgr),
        pixels.to_pictures(frames, bgr=bgr),
        pixels.to_pictures(frames[1], bgr=bgr),
    )
    monkeypatch.setattr(pixels, "_compiled_loops", lambda: None)
    for got, expected in zip(
        here, (pixels.normalise(pictures, bgr=bgr), pixels.to_pictures(frames, bgr=bgr)), strict=False
    ):
        assert torch.equal(got, expected)
    assert torch.equal(here[2], here[1][1])
    assert all(tensor.is_contiguous() for tensor in here)


def test_halves_are_rounded_to_the_even_level() -> None:
    frame = (torch.tensor([0.5, 1.5, 2.5, 254.5]) / 255).expand(3, 1, 4)
    products = frame * 255
    assert pixels.to_pictures(frame)[0, :, 0].tolist() == products[0, 0].round().tolist()


@pytest.mark.parametrize("bgr", [False, True])
def test_pictures_that_nobody_may_write_to_are_stacked(bgr: bool) -> None:
    pictures = [np.frombuffer(bytes(range(n, n + 60)), np.uint8).reshape(4, 5, 3) for n in (0, 100)]
    pictures.append(np.ones((8, 5, 3), np.uint8)[::2])
    frames = pixels.to_frames(pictures, torch.device("cpu"), bgr=bgr)
    assert torch.equal(frames, pixels.normalise(torch.from_numpy(np.stack(pictures)), bgr=bgr))
