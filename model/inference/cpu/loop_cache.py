"""Where compiled loops are kept: a folder for the sources that they were made of.

numba compiles a loop again when the file that it lies in has changed, but not when another has whose parts or
instructions go into it: after an update in place the loops of two releases would be mixed. Knows no loop.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_ROOM = Path(__file__).parent
#: The rooms whose sources go into loops. `scripts/loops` knows them, too.
ROOMS = (_ROOM, _ROOM.parent.parent / "mixing")


def use() -> None:
    """Have numba keep what it compiles from now on in the folder for the present sources."""
    config: Any = import_module("numba").config
    # As numba has it: where an operator says, else beside the sources, else with the user's other caches.
    asked = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []
    config.CACHE_DIR = str(folder_for(ROOMS, asked or [_ROOM / "__pycache__", Path.home() / ".cache" / "numba"]))


def folder_for(rooms: Sequence[Path], places: Sequence[Path]) -> Path:
    """Return the folder for the sources in `rooms`, in the first of `places` that can be written, else in the first."""
    name = f"loops-{digest(rooms)}"
    return next((place for place in places if _can_be_written(place)), places[0]) / name


def digest(rooms: Sequence[Path]) -> str:
    """Return sixteen hexadecimal digits that name the sources in `rooms`."""
    sources = [file.read_bytes() for room in rooms for file in sorted(room.glob("*.py"))]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
