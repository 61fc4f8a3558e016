"""The short form of `make chaos`: the same harm, fewer jobs."""

from __future__ import annotations

import pytest

from tests.chaos import run


def test_no_accepted_job_is_lost_and_none_is_answered_twice(capsys: pytest.CaptureFixture[str]) -> None:
    status = run.main(["--jobs=60", "--seconds=6", "--poison=1", "--restarts=1", "--floods=1", "--kill-every=1.0"])
    report = capsys.readouterr().out
    assert status == 0, report
    assert "accepted jobs        60 " in report
    assert "redis                1 crashes with AOF, 1 times full memory" in report
