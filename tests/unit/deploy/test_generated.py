"""Files of deploy/ that are made from the code are what the code makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.generate import files


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_generated_file_is_current(path: Path) -> None:
    assert path.read_text() == files()[path], "run: python -m deploy.generate"
