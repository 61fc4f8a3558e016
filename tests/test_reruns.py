"""What may run again is what says so, a fixed number of times, and no first failure hides."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.tools import missing

ROOT = Path(__file__).parent.parent
#: Each test fails as often as its name says, and writes down that it ran.
TESTS = """
import pathlib
import pytest

RUNS = pathlib.Path(__file__).parent / "runs"

def fail_first(name, failures):
    runs = RUNS / name
    runs.write_text((runs.read_text() if runs.exists() else "") + "x")
    assert len(runs.read_text()) > failures, f"{name} ran {len(runs.read_text())} times"

@pytest.mark.measured
@pytest.mark.parametrize("failures", [0, 1, 2, 3])
def test_measured(failures):
    print("measuring")
    fail_first(f"measured{failures}", failures)

def test_plain():
    fail_first("plain", 1)
"""
SYSTEM_TESTS = (
    TESTS.partition("@pytest")[0]
    + """
@pytest.mark.parametrize("failures", [1, 2])
def test_whole(failures):
    fail_first(f"whole{failures}", failures)

@pytest.mark.slow
def test_slow():
    fail_first("slow", 1)
"""
)


def test_only_what_is_measured_or_runs_whole_processes_may_fail_at_first(tmp_path: Path) -> None:
    if find_spec("pytest_rerunfailures") is None:
        missing("pytest-rerunfailures")
    for folder, text in (("tests/unit", TESTS), ("tests/system", SYSTEM_TESTS)):
        (tmp_path / folder / "runs").mkdir(parents=True)
        (tmp_path / folder / f"test_{folder[6:]}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    measured: is\n    slow: is\n")
    plugins = ["-p", "rerunfailures", "-p", "tests.reruns"]
    command = [sys.executable, "-m", "pytest", *plugins, "-q", "--strict-markers", "--tb=short"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    runs = {path.name: len(path.read_text()) for path in tmp_path.glob("tests/*/runs/*")}
    measured = {"measured0": 1, "measured1": 2, "measured2": 3, "measured3": 3}
    assert runs == {**measured, "plain": 1, "whole1": 2, "whole2": 2, "slow": 1}, ended.stdout
    assert ended.returncode == 1
    assert "4 failed, 4 passed, 7 rerun" in ended.stdout, ended.stdout

    _, _, printed = ended.stdout.partition("FAILED, AND RUN AGAIN")
    assert "test_measured[2] failed, and passed when it was run again" in printed
    assert "AssertionError: measured2 ran 1 times" in printed, printed
    assert "AssertionError: measured2 ran 2 times" in printed, printed
    assert "measuring" in printed
    assert "test_measured[3] failed, and FAILED AGAIN when it was run again" in printed
    assert "test_whole[1] failed, and passed when it was run again" in printed
    assert "test_plain" not in printed.partition("short test summary")[0]
