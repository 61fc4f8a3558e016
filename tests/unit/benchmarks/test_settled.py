"""A benchmark of a service begins when its memory is moved."""

from __future__ import annotations

import pytest

from benchmarks import settled
from service import large_pages


def test_it_waits_until_nothing_more_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, naps = iter([0, 8, 340, 340]), list[float]()
    monkeypatch.setattr(large_pages, "bytes_in_large_pages", lambda pid: next(sizes))
    assert settled.until_settled(7, naps.append) == 340
    assert naps[0] > large_pages.DELAY_S
    assert len(naps) == 4
