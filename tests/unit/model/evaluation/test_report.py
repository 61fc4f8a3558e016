"""Published rows beside ours, marked, where the protocol is the same."""

from __future__ import annotations

import math

import pytest

from model.evaluation import published, report
from model.evaluation.measure import Measurement, WindowScore
from model.evaluation.report import EvaluationRun

METHODS = ("repeat", "dis", "farneback", "full", "auto")


def _measured(steps: int) -> Measurement:
    scores = [
        WindowScore(m, "c", 0, k, 30.0, 0.9, 0.95, math.nan, 0.0, "1") for m in METHODS for k in range(1, steps + 1)
    ]
    return Measurement(scores, [])


@pytest.mark.parametrize(("protocol", "steps"), [("cityscapes", (1, 3, 5)), ("vimeo", (1,))])
def test_published_rows_are_marked(protocol: str, steps: tuple[int, ...]) -> None:
    text = report.markdown(EvaluationRun("w", protocol, steps, 1, "again"), _measured(max(steps)))
    assert "published, unverified" in text
    assert "published, secondary" in text
    assert "DMVFN without routing" in text


def test_a_folder_of_clips_has_no_published_rows() -> None:
    assert "published" not in report.markdown(EvaluationRun("w", "clips", (1,), 1, "again"), _measured(1))


def test_every_published_row_has_a_figure_for_every_horizon() -> None:
    for protocol, rows in published.ROWS.items():
        lengths = {len(figures) for row in rows for figures in (row.ms_ssim, row.lpips)}
        assert lengths == ({1} if protocol == "vimeo" else {3})
