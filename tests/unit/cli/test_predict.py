"""What `python -m service predict` says of files that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.predict import main
from service.settings import Settings
from tests.unit.imaging.pictures import file_of, noise


def test_a_file_that_cannot_be_read_is_told_without_a_number_of_the_system(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(file_of(noise(32, 48, 1), "PNG"))
    for missing, why in ((tmp_path / "b.png", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main([str(tmp_path / "a.png"), str(missing), "-o", str(tmp_path / "out.png")], Settings()) == 1
        assert capsys.readouterr().err == f"predict: cannot use {missing}: {why}\n"
