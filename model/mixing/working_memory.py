"""Keeps working memory from call to call, so that no prediction waits for fresh pages. For one caller at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Numbers behind each array: loops take whole vectors, and may read so far beyond the last.
BEHIND = 16


class WorkingMemory:
    """Arrays by name, which grow to what the largest frame needs."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, np.dtype[Any]], NDArray[Any]] = {}

    def take(self, name: str, kind: DTypeLike, *shape: int) -> NDArray[Any]:
        """Return an array of this shape with what its last user left in it; the next one of the name lies there too."""
        size, key = math.prod(shape), (name, np.dtype(kind))
        if key not in self._rooms or self._rooms[key].size < size + BEHIND:
            self._rooms[key] = np.empty(size + BEHIND, kind)
        return self._rooms[key][:size].reshape(shape)
