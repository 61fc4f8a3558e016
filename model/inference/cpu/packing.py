"""Weights and maps in the order in which the compiled loops read them, and the memory of maps. Knows no blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.inference.cpu import amx_tiles
from model.inference.cpu.lanes import VECTOR
from model.inference.cpu.matrix_tiles import PANELS
from model.inference.cpu.precision import Arithmetic

#: float32; bfloat16 as uint16; of weights also pairs of bfloat16 as uint32, for AMX.
Array = npt.NDArray[np.float32] | npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
#: Least channels of maps: what a vector writes beyond the last pixel must not pass the border behind it.
LEAST_CHANNELS = 8
#: Channels of maps whose sums fill half a vector: a narrow product's.
NARROW = VECTOR // 2
#: What a block sees of a pixel: both frames, both warped, mask and flow; those from PRECISE on exceed 0..1, and
#: bfloat16 has them twice, rounded and then what the rounded ones lack.
SEEN, PRECISE = 17, 12
#: Channels of it in bfloat16.
SEEN_TWICE = 2 * SEEN - PRECISE
#: Those by AMX, which loads a pixel at once where it lies in one line: each frame's three have a zero behind them, then
#: come flow, mask and three zeros, and last what these eight lack. Here is where each of SEEN_TWICE is among them.
SEEN_BY_AMX = 32
SEEN_PLACES = (0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 20, 16, 17, 18, 19, 28, 24, 25, 26, 27)
#: Side of a tile of Winograd's outputs.
_TILE = 4
#: Bytes of a line of a processor's cache.
_LINE = 64


def channels(number: int) -> int:
    """Return how many channels maps of so many have: 8 at least, and even, for pairs of bfloat16."""
    return max(number + number % 2, LEAST_CHANNELS)


def before_beside(outputs: int) -> int:
    """Return how many sums stand before the eight of a second convolution of the same maps: whole vectors with them.

    0 where the vectors of a pixel would reach further than the border behind the last one.
    """
    before = -(-(outputs + NARROW) // VECTOR) * VECTOR - NARROW
    return before if before + NARROW <= 2 * outputs else 0


def bordered(height: int, width: int) -> tuple[int, int]:
    """Return the sides of maps of height x width pixels with their border: one before, whole tiles and one behind."""
    return -(-height // _TILE) * _TILE + 2, -(-width // _TILE) * _TILE + 2


def widened(tensor: Tensor, dim: int, size: int) -> Tensor:
    """Pad `dim` with zeros at its end up to `size`."""
    missing = [0, 0] * (tensor.dim() - 1 - dim % tensor.dim()) + [0, size - tensor.shape[dim]]
    return F.pad(tensor, missing)


def packed(matrices: Tensor, arithmetic: Arithmetic, step: int = amx_tiles.STEP) -> Array:
    """Pack matrices SxRxKxO (S products of R stretches of K factors, KxO each) by panels of vectors; flat.

    Factors of bfloat16 are in pairs: K must be even. step: of AMX's, the least K of all matrices that are summed.
    """
    if arithmetic is Arithmetic.AMX:
        matrices = _in_steps(matrices, step)
    products, stretches, factors, outputs = matrices.shape
    together = 2 if arithmetic.half else 1
    vectors = -(-outputs // VECTOR)
    lanes = VECTOR * next((number for number in PANELS if vectors % number == 0), 1)
    panels = vectors * VECTOR // lanes
    parts = widened(matrices, 3, vectors * VECTOR)
    parts = parts.reshape(products, stretches, factors // together, together, panels, lanes)
    return _flat(parts.permute(0, 4, 1, 2, 5, 3), arithmetic)


def packed_narrow(stretches: Tensor, arithmetic: Arithmetic) -> Array:
    """Pack RxKx8 (R stretches of K factors) for narrow products, K filled up with zeros to whole vectors; flat."""
    if arithmetic is Arithmetic.AMX:
        stretches = _in_steps(stretches, amx_tiles.STEP)
        pairs = stretches.reshape(len(stretches), -1, 2, stretches.shape[2])
        return _flat(pairs.transpose(2, 3), arithmetic)
    count, factors, outputs = stretches.shape
    together = 2 if arithmetic.half else 1
    parts = widened(stretches, 1, -(-factors // (2 * together)) * 2 * together)
    parts = parts.reshape(count, -1, 2, together, outputs).permute(0, 1, 4, 2, 3)
    return _flat(parts, arithmetic)


def _in_steps(matrices: Tensor, step: int) -> Tensor:
    """Return ...xKxO as AMX reads K factors in steps: the last begins early, with zeros for what was read before."""
    factors = matrices.shape[-2]
    step = min(step, factors)
    steps = []
    for start in range(0, factors, step):
        first = min(start, factors - step)
        steps.append(F.pad(matrices[..., start : first + step, :], (0, 0, start - first, 0)))
    return torch.cat(steps, -2)


def _flat(parts: Tensor, arithmetic: Arithmetic) -> Array:
    flat = numbers(parts, arithmetic.half).reshape(-1)
    return flat.view(np.uint32) if arithmetic is Arithmetic.AMX else flat


def numbers(tensor: Tensor, half: bool) -> Array:
    """Return a contiguous copy: float32, or bfloat16 as uint16 where `half`."""
    if not half:
        floats: npt.NDArray[np.float32] = tensor.float().contiguous().clone().numpy()
        return floats
    halves: npt.NDArray[np.uint16] = tensor.bfloat16().contiguous().view(torch.uint16).clone().numpy()
    return halves


def activation(biases: Tensor, slopes: Tensor) -> npt.NDArray[np.float32]:
    """Return biases, then slopes, each with zeros up to whole vectors."""
    size = -(-len(biases) // VECTOR) * VECTOR
    values: npt.NDArray[np.float32] = torch.cat((widened(biases, 0, size), widened(slopes, 0, size))).float().numpy()
    return values


def _aligned(size: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an empty array that begins with a line of the processor's cache."""
    count = _LINE // np.dtype(kind).itemsize
    room = np.empty(size + count, kind)
    return room[-room.ctypes.data % _LINE // room.itemsize :]


class WorkingMemory:
    """Arrays by name and type, kept from call to call: no prediction waits for fresh pages. For one caller at a time.

    They grow to what the largest frame needs.
    """

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, np.dtype[Any]], npt.NDArray[Any]] = {}

    def take(self, name: str, kind: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        """Return an array of this shape with what its last user left in it; the next one of the name lies there too."""
        size, key = math.prod(shape), (name, np.dtype(kind))
        if key not in self._rooms or self._rooms[key].size < size + VECTOR:
            # Loops take whole vectors: they may read this far behind the last number.
            self._rooms[key] = _aligned(size + VECTOR, kind)
        return self._rooms[key][:size].reshape(shape)
