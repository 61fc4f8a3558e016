from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.__main__ import VERBS
from tests.system.e2e.process import ROOT

Complete = Callable[..., list[str]]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Complete:
    """What bash would offer after these words."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "clip.mp4").touch()
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "completion"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    script = folder / "completion.bash"
    script.write_text(printed)

    def ask(*words: str) -> list[str]:
        code = (
            f'. "{script}"; COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; '
            '_dmvfn; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        told = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
        )
        return told.stdout.split()

    return ask


def test_verbs_are_completed(complete: Complete) -> None:
    assert set(complete("dmvfn", "")) == {*VERBS, "--help"}
    assert complete("dmvfn", "vi") == ["video"]


def test_options_of_the_verb_are_completed_and_of_no_other(complete: Complete) -> None:
    assert complete("dmvfn", "video", "--fi") == ["--fill-lost"]
    assert complete("dmvfn", "predict", "--fi") == []
    assert "--steps" in complete("dmvfn", "predict", "--")


def test_verbs_below_a_verb_are_completed(complete: Complete) -> None:
    assert "replay" in complete("dmvfn", "jobs", "re")


def test_files_are_completed_where_no_option_is_meant(complete: Complete) -> None:
    assert "clip.mp4" in complete("dmvfn", "video", "cl")


def test_the_short_name_runs_the_service_from_any_folder(tmp_path: Path) -> None:
    code = f'eval "$({sys.executable} {ROOT}/scripts/completion)"; dmvfn video --help'
    told = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "--fill-lost" in told.stdout
