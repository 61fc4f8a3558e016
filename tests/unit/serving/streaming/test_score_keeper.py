"""What a stream's scores are told to: metrics, and whatever compares versions of the weights."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from service.core.types import Method
from service.serving.streaming.score_keeper import ScoreKeeper
from service.serving.streaming.score_sampling import EVERY, RUN
from service.serving.streaming.session import Tag
from service.telemetry.metrics import Metrics
from tests.unit.serving.streaming.test_online_score import OUT_BY_4, OUT_BY_8, flat, predicted


class WatchedVersions:
    """Keeps the scores that it is told."""

    def __init__(self, *, wants_scores: bool = False) -> None:
        self.scores: list[tuple[str, float]] = []
        self.wants_scores = wants_scores

    def record_score(self, version: str, gain_db: float) -> None:
        self.scores.append((version, gain_db))


@pytest.mark.parametrize(("method", "count"), [(Method.DMVFN, 1), (Method.MIX, 1), (Method.FLOW, 0)])
async def test_versions_are_told_of_predictions_that_their_weights_made(method: Method, count: int) -> None:
    versions, metrics = WatchedVersions(), Metrics(CollectorRegistry())
    keeper = ScoreKeeper(metrics.stream_quality, versions)
    keeper.arrived(Tag(0, "0"), flat(100), begins_pair=True)
    keeper.arrived(Tag(1, "1"), flat(108), begins_pair=False)
    keeper.predicted(Tag(1, "1"), None, flat(108), predicted(112, method=method))
    keeper.arrived(Tag(2, "2"), flat(116), begins_pair=False)
    report = await keeper.final()
    await keeper.close()
    assert report is not None
    assert [version for version, _ in versions.scores] == ["v7"] * count
    assert [gain for _, gain in versions.scores] == pytest.approx([OUT_BY_4 - OUT_BY_8] * count, abs=1e-3)


async def test_comparisons_that_nobody_waits_for_are_gathered_and_none_is_lost_at_the_end() -> None:
    registry = CollectorRegistry()
    keeper = ScoreKeeper(Metrics(registry).stream_quality, is_told=False, delay_s=3600)
    keeper.arrived(Tag(0, "0"), flat(100), begins_pair=True)
    keeper.predicted(Tag(1, "1"), None, flat(108), predicted(112))
    keeper.arrived(Tag(2, "2"), flat(116), begins_pair=False)
    for _ in range(10):
        await asyncio.sleep(0)
    assert keeper.report() is None
    await keeper.close()
    report = keeper.report()
    assert report is not None
    assert report.frames == 1
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert [sample.value for sample in samples if sample.name == "dmvfn_stream_psnr_db_count"] == [1]


async def _scored(frames: int, *, is_told: bool = False, wants_scores: bool = False, cut: int = 0) -> int:
    """Return how many of a steady stream's predictions are scored; there is a cut before frame `cut`."""
    keeper = ScoreKeeper(
        Metrics(CollectorRegistry()).stream_quality,
        WatchedVersions(wants_scores=wants_scores),
        is_told=is_told,
        delay_s=0.0,
    )
    for number in range(frames):
        keeper.arrived(Tag(number), flat(100), begins_pair=number in (0, cut))
        if number not in (0, cut):
            keeper.predicted(Tag(number), None, flat(100), predicted(108))
        await keeper.final()
    report = keeper.report()
    await keeper.close()
    return 0 if report is None else report.frames


async def test_a_few_frames_stand_for_a_stream_whose_score_nobody_is_told() -> None:
    assert await _scored(2 * EVERY, is_told=True) == 2 * EVERY - 2, "from all but the first, the last has no truth yet"
    assert await _scored(2 * EVERY) == (RUN - 2) + (RUN - 1)


async def test_every_frame_counts_while_versions_are_compared() -> None:
    assert await _scored(2 * EVERY, wants_scores=True) == 2 * EVERY - 2


async def test_what_was_predicted_before_a_cut_is_no_score_among_few_frames_either() -> None:
    assert await _scored(2 * EVERY, cut=EVERY + 1) == (RUN - 2) + (RUN - 3)


async def test_versions_that_come_to_be_compared_are_told_of_every_frame_from_then_on() -> None:
    versions = WatchedVersions()
    keeper = ScoreKeeper(Metrics(CollectorRegistry()).stream_quality, versions, is_told=False, delay_s=0.0)
    for number in range(EVERY):
        versions.wants_scores = number >= 10
        keeper.arrived(Tag(number), flat(100), begins_pair=number == 0)
        if number:
            keeper.predicted(Tag(number), None, flat(100), predicted(108, method=Method.DMVFN))
        await keeper.final()
    await keeper.close()
    # Two of the first run, then those whose truths are the frames from 11 on.
    assert len(versions.scores) == (RUN - 2) + (EVERY - 11)
