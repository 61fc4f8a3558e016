"""The saturation benchmark in small: a tiny network, both contenders, right answers."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from benchmarks import saturation
from tests.system.e2e.process import service, tiny_weights


def test_service_and_executor_give_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its frames are judged here, not the core that it is kept on, nor the time of its imports, nor its pages.
    monkeypatch.setattr(saturation, "until_settled", lambda pid: 0)
    monkeypatch.setattr(saturation, "service", functools.partial(service, forked=True))
    found = saturation.measure(tiny_weights(tmp_path), (32, 48), ("auto", "full"), seconds=0.1, rounds=1)
    assert list(found) == ["auto", "full"]
    for outcome in found.values():
        assert outcome.wrong == 0
        assert min(outcome.bare.frames, outcome.served.frames) > 0
        assert outcome.share > 0
    lines = saturation.table(found).splitlines()
    assert [line.count("|") for line in lines] == [8] * 4
