"""What every peer's handler runs: bodies in, bodies out, by the bare executor. Only the serving differs among peers.

A body is height and width (two little-endian uint32) and two frames HxWx3 uint8; the answer is the next frame alone.
Settings come from the environment, because peers start their workers as processes of their own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.bare import Executor, Picture

_SIZE = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Tuned:
    """How a peer is set up: the largest batch, and the longest that a request may take (seconds)."""

    weights: str
    batch: int
    deadline: float
    port: int

    @classmethod
    def from_env(cls) -> Tuned:
        """As `environment` wrote it."""
        read = os.environ
        return cls(read["PEER_WEIGHTS"], int(read["PEER_BATCH"]), float(read["PEER_DEADLINE"]), int(read["PEER_PORT"]))

    def environment(self) -> dict[str, str]:
        """For the peer's process."""
        return {
            "PEER_WEIGHTS": self.weights,
            "PEER_BATCH": str(self.batch),
            "PEER_DEADLINE": str(self.deadline),
            "PEER_PORT": str(self.port),
        }


def pack(pair: Picture) -> bytes:
    """A pair 2xHxWx3 as a body."""
    return _SIZE.pack(pair.shape[1], pair.shape[2]) + pair.tobytes()


def unpack(body: bytes) -> Picture:
    """The pair in a body."""
    height, width = _SIZE.unpack_from(body)
    return np.frombuffer(body, np.uint8, offset=_SIZE.size).reshape(2, height, width, 3)


class Handler:
    """The network, warmed up."""

    def __init__(self, tuned: Tuned) -> None:
        self._run = Executor(tuned.weights)
        self._run([np.zeros((2, 64, 64, 3), np.uint8)])

    def frames(self, pairs: Sequence[Picture]) -> list[Picture]:
        """Frames HxWx3 in the order of their pairs 2xHxWx3, run as one batch for each size among them."""
        frames: dict[int, Picture] = {}
        for shape in dict.fromkeys(pair.shape for pair in pairs):
            rows = [row for row, pair in enumerate(pairs) if pair.shape == shape]
            frames.update(zip(rows, self._run([pairs[row] for row in rows]), strict=True))
        return [frames[row] for row in range(len(pairs))]

    def __call__(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Answers in order. Most peers know nothing of sizes, so what they batch may hold several."""
        return [frame.tobytes() for frame in self.frames([unpack(body) for body in bodies])]
