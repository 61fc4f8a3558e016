"""Converts the larger values inside messages to msgpack's kinds and back: arrays of floats, and moments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def times(values: object) -> tuple[float, ...]:
    """Read moments; none where there is nothing. Raises ValueError where one is no positive number."""
    if values is None:
        return ()
    if not isinstance(values, list) or not all(type(t) in (int, float) and 0 < t < math.inf for t in values):
        raise ValueError("moments that are no positive numbers")
    return tuple(map(float, values))


def array(values: NDArray[np.float32] | None) -> dict[str, Any] | None:
    """Write an array with its shape, or nothing."""
    if values is None:
        return None
    return {"shape": list(values.shape), "f4": np.ascontiguousarray(values, "<f4").tobytes()}


def read_array(value: dict[str, Any] | None) -> NDArray[np.float32] | None:
    """Read an array that `array` wrote, or nothing."""
    if value is None:
        return None
    values: NDArray[np.float32] = np.frombuffer(value["f4"], "<f4").reshape(value["shape"])
    return values
