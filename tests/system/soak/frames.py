"""Pairs of frames as raw requests, made before anything is measured."""

from __future__ import annotations

from typing import Any

from tests.system.soak.wire import request
from tests.unit.engine.tiny import frames

RAW = "application/octet-stream"


def raw(seed: int, height: int, width: int, query: str, **headers: Any) -> bytes:
    """A whole request for one prediction, raw pixels in and out."""
    previous, current = frames(seed, height, width)
    body = previous.pixels.tobytes() + current.pixels.tobytes()
    headers |= {"Content_Type": RAW, "Accept": RAW, "X_Frame_Shape": f"2,{height},{width},3"}
    return request(f"/v1/predict?{query}", body, **headers)


def pairs(height: int, width: int, query: str, count: int = 8) -> list[bytes]:
    """Requests with different frames of one size."""
    return [raw(seed, height, width, query) for seed in range(count)]
