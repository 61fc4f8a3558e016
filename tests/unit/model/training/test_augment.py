"""Augmentation changes every frame of a sample alike, and only as a rotation, a mirror or a gain would."""

from __future__ import annotations

import torch

from model.training.augment import augment


def test_the_three_frames_of_a_sample_change_alike() -> None:
    frame = torch.rand(16, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = augment(frame.expand(-1, 3, -1, -1, -1), torch.Generator().manual_seed(1))
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0], changed[:, 2])


def test_samples_change_each_in_its_own_way_and_the_draw_repeats() -> None:
    clips = torch.rand(1, 3, 3, 8, 8).expand(8, -1, -1, -1, -1)
    first, again = (augment(clips, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert len({tuple(sample.flatten()[:20].tolist()) for sample in first}) > 4


def test_values_stay_within_range() -> None:
    changed = augment(torch.ones(32, 3, 3, 4, 4), torch.Generator().manual_seed(2))
    assert float(changed.max()) <= 1
    assert float(changed.min()) >= 0.8
