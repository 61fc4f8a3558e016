"""Loops that were compiled from other sources are never run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from model.inference.cpu import frame_kernels, loop_cache
from model.mixing import head_kernels
from tests.house import ROOT


@pytest.mark.parametrize("kernel", [frame_kernels.blend, head_kernels.share])
def test_loops_lie_in_the_folder_of_their_sources(kernel: Any) -> None:
    assert Path(kernel.stats.cache_path).parent.name == f"loops-{loop_cache.digest(loop_cache.ROOMS)}"


@pytest.mark.parametrize("file", ["inference/cpu/lanes.py", "inference/cpu/matrix_tiles.py", "mixing/row_reading.py"])
def test_a_change_of_any_source_names_another_folder(file: str, tmp_path: Path) -> None:
    rooms = [_copy(room, tmp_path) for room in ("inference/cpu", "mixing")]
    before = loop_cache.digest(rooms)
    assert before == loop_cache.digest(loop_cache.ROOMS)
    _change(tmp_path / "model" / file)
    assert loop_cache.digest(rooms) != before


def test_loops_go_where_they_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "no-folder"
    file.touch()
    folder = loop_cache.folder_for(loop_cache.ROOMS, [file / "below", tmp_path / "home" / "numba"])
    assert folder.parent == tmp_path / "home" / "numba"
    assert loop_cache.folder_for(loop_cache.ROOMS, [file / "below"]).parent == file / "below"


@pytest.mark.parametrize("has_changed", [False, True])
def test_the_script_compiles_what_was_compiled_from_other_sources(has_changed: bool, tmp_path: Path) -> None:
    """It names the folder as the service does: what lies there it leaves, and what was there for other sources goes."""
    rooms = [_copy(room, tmp_path) for room in ("inference/cpu", "mixing")]
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "loops", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho compiled\n")
    python.chmod(0o755)
    folder = loop_cache.folder_for(rooms, [rooms[0] / "__pycache__"])
    for room, kernels in (("cpu_1", "join_kernels"), ("mixing_2", "head_kernels")):
        (folder / room).mkdir(parents=True)
        (folder / room / f"{kernels}.join-7.py311.nbi").touch()
    if has_changed:
        _change(rooms[0] / "lanes.py")
    environment = {"PATH": "/usr/bin:/bin", "VENV": ".venv"}
    done = subprocess.run([tmp_path / "scripts" / "loops"], env=environment, capture_output=True, text=True, check=True)
    assert ("compiled" in done.stdout, folder.exists()) == (has_changed, not has_changed)


def _copy(room: str, folder: Path) -> Path:
    copy = folder / "model" / room
    shutil.copytree(ROOT / "model" / room, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _change(file: Path) -> None:
    file.write_text(file.read_text() + "# changed\n")
