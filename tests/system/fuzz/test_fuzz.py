"""A short run of the fuzzer; `make fuzz` runs the long one."""

from __future__ import annotations

import contextlib

import pytest

from service.core.errors import ServiceError
from tests.system.fuzz.__main__ import main
from tests.system.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_honest_inputs_are_read(name: str) -> None:
    """Else mutations of them would never get past the first check."""
    seeds, parse, _ = TARGETS[name]
    read = 0
    for seed in seeds:
        with contextlib.suppress(ServiceError):
            parse(seed)
            read += 1
    assert read >= 1


def test_mutated_bytes_crash_no_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(5000, seed=1) == 0, capsys.readouterr().out
    assert "5000 inputs" in capsys.readouterr().out
