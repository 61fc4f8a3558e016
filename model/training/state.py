"""Saves and finds the state of a run: whole or not at all, and in small files where asked.

The state is a tree of tensors and plain values; what it means is the loop's business.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

INDEX = "state.json"


class StateError(ValueError):
    """The saved state is damaged or belongs to another run; the message says which."""


def save(folder: Path, step: int, run: str, tree: dict[str, Any], part_bytes: int | None = None) -> None:
    """Write `tree` as the state after `step` steps of `run`; with `part_bytes`, in files of at most that size.

    The index is replaced last: whoever is stopped before keeps the state before.
    """
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    payload = buffer.getvalue()
    size = part_bytes or max(1, len(payload))
    names = []
    for number, offset in enumerate(range(0, len(payload), size)):
        name = f"state-{step:08d}.{number:03d}"
        (folder / name).write_bytes(payload[offset : offset + size])
        names.append(name)
    index = {"step": step, "run": run, "parts": names, "sha256": hashlib.sha256(payload).hexdigest()}
    fresh = folder / f"{INDEX}.part"
    fresh.write_text(json.dumps(index, indent=1))
    fresh.replace(folder / INDEX)
    for old in folder.glob("state-*.[0-9][0-9][0-9]"):
        if old.name not in names:
            old.unlink()


def load(folder: Path, run: str) -> tuple[int, dict[str, Any]] | None:
    """Read step and tree that `save` wrote; None where there are none. Raises StateError if they do not fit."""
    path = folder / INDEX
    if not path.is_file():
        return None
    index = json.loads(path.read_text())
    if index["run"] != run:
        raise StateError(f"{folder}: holds another run's state; choose an empty folder, or the run file it began with")
    payload = b"".join((folder / name).read_bytes() for name in index["parts"])
    if hashlib.sha256(payload).hexdigest() != index["sha256"]:
        raise StateError(f"{folder}: the saved state is damaged")
    tree: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return int(index["step"]), tree
