"""A short run of the fuzzer; `make fuzz` runs the long one."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import main


def test_mutated_bytes_crash_no_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(3000, seed=1) == 0, capsys.readouterr().out
    assert "3000 inputs" in capsys.readouterr().out
