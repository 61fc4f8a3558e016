"""What fails runs again a fixed number of times, few tests in a run may need it, and no first failure hides."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reruns import FEW
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

@pytest.mark.parametrize("failures", [1, 2])
def test_plain(failures):
    fail_first(f"plain{failures}", failures)
"""
#: How many of these fail at first is their number.
PLAIN_TESTS = (
    TESTS.partition("@pytest")[0]
    + """
@pytest.mark.parametrize("name", [f"many{k}" for k in range({count})])
def test_many(name):
    fail_first(name, 1)
"""
)
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


def run(folder: Path, **tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests, by the folder they are in, with the plugins that the default run has."""
    if find_spec("pytest_rerunfailures") is None:
        missing("pytest-rerunfailures")
    for name, text in tests.items():
        (folder / "tests" / name / "runs").mkdir(parents=True)
        (folder / "tests" / name / f"test_{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    measured: is\n    slow: is\n")
    plugins = ["-p", "rerunfailures", "-p", "tests.reruns"]
    command = [sys.executable, "-m", "pytest", *plugins, "-q", "--strict-markers", "--tb=short"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_failed_test_runs_again_as_often_as_its_kind_may_and_its_first_failure_is_printed(tmp_path: Path) -> None:
    ended = run(tmp_path, unit=TESTS, system=SYSTEM_TESTS)

    runs = {path.name: len(path.read_text()) for path in tmp_path.glob("tests/*/runs/*")}
    measured = {"measured0": 1, "measured1": 2, "measured2": 3, "measured3": 3}
    assert runs == {**measured, "plain1": 2, "plain2": 2, "whole1": 2, "whole2": 2, "slow": 1}, ended.stdout
    assert ended.returncode == 1
    assert "4 failed, 5 passed, 9 rerun" in ended.stdout, ended.stdout

    _, _, printed = ended.stdout.partition("FAILED, AND RUN AGAIN")
    assert "test_measured[2] failed, and passed when it was run again" in printed
    assert "AssertionError: measured2 ran 1 times" in printed, printed
    assert "AssertionError: measured2 ran 2 times" in printed, printed
    assert "measuring" in printed
    assert "test_measured[3] failed, and FAILED AGAIN when it was run again" in printed
    assert "test_whole[1] failed, and passed when it was run again" in printed
    assert "test_plain[2] failed, and FAILED AGAIN when it was run again" in printed


@pytest.mark.parametrize(("count", "code"), [(FEW, 0), (FEW + 1, 1)])
def test_a_run_in_which_many_tests_failed_at_first_has_failed(tmp_path: Path, count: int, code: int) -> None:
    ended = run(tmp_path, unit=PLAIN_TESTS.replace("{count}", str(count)))
    assert f"{count} passed, {count} rerun" in ended.stdout, ended.stdout
    assert (ended.returncode, f"{count} TESTS FAILED AT FIRST" in ended.stdout) == (code, bool(code)), ended.stdout
