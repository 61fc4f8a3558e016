"""What a stream's scores are told to: metrics, and whatever compares versions of the weights."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from service.core.types import Method
from service.serving.streaming.score_keeper import ScoreKeeper
from service.serving.streaming.session import Tag
from service.telemetry.metrics import Metrics
from tests.unit.serving.streaming.test_online_score import OUT_BY_4, OUT_BY_8, flat, predicted


class WatchedVersions:
    """Keeps the scores that it is told."""

    def __init__(self) -> None:
        self.scores: list[tuple[str, float]] = []

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
    keeper = ScoreKeeper(Metrics(registry).stream_quality, delay_s=3600)
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
