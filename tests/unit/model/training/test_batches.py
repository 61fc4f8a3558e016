"""Batches: a pure function of the step, in range, with flow where it is known."""

from __future__ import annotations

import torch

from model.training import batches
from model.training.batches import Batches
from model.training.decode import Clip
from model.training.filters import ClipVerdict
from model.training.plan import Phase
from tests.unit.model.training import pictures

CPU = torch.device("cpu")
PHASE = Phase("a", steps=9, size=64, batch=4, synthetic=0.5, shift=6.0, stride=2, zoom=1.5)


def _batches(seed: int = 1, rank: int = 0) -> Batches:
    clips = [Clip("a", pictures.sliding(9), ClipVerdict()), Clip("still", pictures.sliding(9), ClipVerdict(still=True))]
    return Batches(batches.footage(clips, CPU, strides=2, resident=True), CPU, seed, rank)


def test_a_batch_depends_on_seed_step_and_rank_only() -> None:
    first = _batches()
    first.make(0, PHASE)
    again, other_step, other_rank = first.make(5, PHASE), first.make(6, PHASE), _batches(rank=1).make(5, PHASE)
    expected = _batches().make(5, PHASE)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(again, expected, strict=True))
    assert not torch.equal(other_step.target, expected.target)
    assert not torch.equal(other_rank.target, expected.target)


def test_synthetic_samples_come_first_and_bring_their_flow() -> None:
    batch = _batches().make(0, PHASE)
    assert (batch.target.shape, batch.synthetic) == ((4, 3, 64, 64), 2)
    assert float(batch.known[:2].mean()) > 0.3
    assert float(batch.known[2:].abs().max()) == 0
    assert 0 <= float(batch.current.min()) <= float(batch.current.max()) <= 1


def test_a_still_clip_is_never_drawn() -> None:
    clips = [Clip("still", pictures.sliding(9), ClipVerdict(still=True))]
    assert batches.footage(clips, CPU, strides=1, resident=False) == []


def test_without_clips_everything_is_synthetic() -> None:
    batch = Batches([], CPU, seed=1).make(0, PHASE)
    assert batch.synthetic == 4


def test_the_teacher_supervises_real_samples() -> None:
    """The pattern moves 2 pixels a frame: the flow to the current frame is about that, to the previous twice it."""
    taught = Phase("a", steps=9, size=64, batch=8, flow=(1.0, 0.0), teacher=True)
    batch = _batches().make(0, taught)
    assert float(batch.known.mean()) > 0.7
    length = [float(batch.flow[:, k : k + 2].square().sum(1).sqrt().median()) for k in (0, 2)]
    assert 1.0 < length[1] < 3.0
    assert 1.6 < length[0] / length[1] < 2.4
