"""Packages as an image has them: hard links to the installed ones, made smaller by the image's own scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.tools import missing, require
from tests.unit.deploy.manifests import DEPLOY

#: Where this Python's packages are.
INSTALLED = next(Path(path) for path in sys.path if (Path(path) / "numpy" / "__init__.py").is_file())


def link(names: Iterable[str], folder: Path) -> None:
    """Link what the installed packages hold under these names, file by file, into a folder."""
    for name in names:
        source = INSTALLED / name
        try:
            if source.is_dir():
                shutil.copytree(source, folder / name, copy_function=os.link)
            else:
                os.link(source, folder / name)
        except OSError:
            missing("a temporary folder on the disk of the packages, to link files")


def slim(folder: Path) -> None:
    """Remove from a folder of packages what the image leaves out."""
    subprocess.run([str(DEPLOY / "image" / "slim"), str(folder)], check=True, timeout=600)


def shrink_libraries(folder: Path) -> None:
    """Make the libraries of a folder of packages smaller, as in the image."""
    for tool in ("strip", "readelf", "as", "ld"):
        require(tool)
    command = [sys.executable, "-S", str(DEPLOY / "image" / "shrink-libraries"), str(folder)]
    subprocess.run(command, check=True, timeout=600)


def megabytes(folder: Path) -> float:
    """Return what the files of a folder take, links to other folders left out, in 10^6 bytes."""
    files = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return sum(file.stat().st_size for file in files if not file.is_symlink()) / 1e6
