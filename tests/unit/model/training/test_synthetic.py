"""Synthetic triples: the flow that comes with them is the flow that made them."""

from __future__ import annotations

import torch

from model.dmvfn.warp import warp
from model.training import synthetic
from model.training.synthetic import Motion


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _triple(layers: int, seed: int = 0, size: int = 64) -> synthetic.Triple:
    textures = synthetic.noise(4 * layers, 128, _rng(seed)).view(4, layers, 3, 128, 128)
    return synthetic.render(textures, size, Motion(shift=(1.0, 8.0)), _rng(seed + 1))


def test_following_the_flow_finds_the_target_where_it_is_visible() -> None:
    triple = _triple(layers=2)
    for which, source in enumerate((triple.previous, triple.current)):
        seen = triple.visible[:, which : which + 1]
        moved = warp(source, triple.flow[:, 2 * which : 2 * which + 2])
        followed = ((moved - triple.target).abs() * seen).sum() / seen.sum()
        stayed = ((source - triple.target).abs() * seen).sum() / seen.sum()
        assert float(followed) < 0.2 * float(stayed)


def test_motion_is_constant_over_the_three_frames() -> None:
    """The previous flow is the current one followed twice; exactly so for one layer that only shifts."""
    textures = synthetic.noise(2, 128, _rng()).view(2, 1, 3, 128, 128)
    shifts = Motion(shift=(2.0, 6.0), rotation=0.0, zoom=0.0, shear=0.0)
    triple = synthetic.render(textures, 64, shifts, _rng(1))
    torch.testing.assert_close(triple.flow[:, :2], 2 * triple.flow[:, 2:], atol=1e-4, rtol=0)
    length = triple.flow[:, 2:].square().sum(1).sqrt()
    assert float(length.min()) >= 2.0 - 1e-3
    assert float(length.max()) <= 6.0 + 1e-3


def test_what_a_layer_uncovers_is_marked() -> None:
    triple = _triple(layers=3)
    assert 0.3 < float(triple.visible.mean()) < 1.0
    assert set(triple.visible.flatten().tolist()) == {0.0, 1.0}


def test_the_same_seed_gives_the_same_triples() -> None:
    a, b, c = _triple(2, seed=3), _triple(2, seed=3), _triple(2, seed=4)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.target, c.target)


def test_noise_is_a_picture() -> None:
    picture = synthetic.noise(2, 64, _rng())
    assert picture.shape == (2, 3, 64, 64)
    assert float(picture.min()) >= 0
    assert float(picture.max()) <= 1
    assert float(picture.std()) > 0.1
