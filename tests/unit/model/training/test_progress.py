"""Progress: means that leave out nan, curves that a resumed run continues, a clock."""

from __future__ import annotations

import math
from pathlib import Path

from model.training.progress import COLUMNS, Clock, CurveFile, RunningMeans


def test_means_leave_out_what_is_no_number() -> None:
    means = RunningMeans()
    means.add({"a": 1.0, "b": math.nan})
    means.add({"a": 3.0})
    assert means.take() == {"a": 2.0}
    assert means.take() == {}


def test_a_resumed_run_drops_rows_past_its_state(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    curves = CurveFile(path, 0)
    for step in (10, 20, 30):
        curves.add({"step": step, "loss": 1 / 3})
    CurveFile(path, 20).add({"step": 30, "phase": "again"})
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["10", "", "0.333333"],
        ["20", "", "0.333333"],
        ["30", "again", ""],
    ]


def test_the_clock_counts_from_where_it_resumed() -> None:
    times = iter([100.0, 110.0, 110.0])
    clock = Clock(lambda: next(times), step=50, total=3770)
    assert clock.rate(70) == 2.0
    assert clock.remaining(70) == "0:30:50"
