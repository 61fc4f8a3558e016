"""A head's convolutions as they run fastest on a processor: compiled loops, whose sums stay in registers.

They are the network's own (`model.inference.cpu`), in float32 or bfloat16. Needs numba.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.inference import padding
from model.inference.cpu import amx_tiles, packing
from model.inference.cpu.packing import Array, WorkingMemory
from model.inference.cpu.precision import Arithmetic
from model.inference.cpu.weights import Convolution, direct, narrow
from model.inference.layers import LayerParameters
from model.mixing import head_kernels
from model.mixing.head import MixingHead
from model.motion.field import Floats, Pixels

#: The head halves a frame three times.
STRIDE = 8
#: For even and odd rows (or columns) of the enlarged map: the small map's row that each of three taps falls on, counted
#: from the one before.
TAPS = ((0, 1, 1), (1, 1, 2))


class Joining(NamedTuple):
    """A 3x3 convolution over an enlarged map and a finer one side by side, packed for two neighbours at once."""

    small_weights: Array  #: for even rows, then for odd ones: a matrix for each of two rows of the small map
    fine_weights: Array  #: a matrix for each of three rows
    activation: Floats
    outputs: int  #: channels of its maps


class PreparedHead:
    """The convolutions of a head in evaluation; holds copies of its weights."""

    @torch.inference_mode()
    def __init__(self, head: MixingHead, memory: WorkingMemory, arithmetic: Arithmetic) -> None:
        """Take the weights; the process must have been asked whether it may use this arithmetic (`precision`)."""
        self._loops, self._arithmetic, self._memory = head_kernels.of(arithmetic), arithmetic, memory
        _, middle, coarse = head.config.widths
        self._kind = np.uint16 if arithmetic.half else np.float32
        self._seen = packing.channels(len(head.config.candidates) + 4)
        self._enter = self._layer(head.enter[0], 2, inputs=self._seen)
        self._middle = [
            self._layer(cast(nn.Sequential, layer)[0], 1 if number else 2) for number, layer in enumerate(head.middle)
        ]
        self._coarse = [
            self._layer(cast(nn.Sequential, layer)[0], 1 if number else 2) for number, layer in enumerate(head.coarse)
        ]
        self._up_middle = self._joining(head.up_middle[0], coarse)
        self._up_fine = self._joining(head.up_fine[0], middle)
        self._leave = self._layer(head.leave, slope=1.0)

    def logits(self, frames: Pixels, flow: Floats) -> Floats:
        """Compute as `MixingHead.logits` of what it sees in frames KxHxWx3 along flow HxWx2, sides padded to STRIDE.

        Maps at half of the padded size, float32, with their border; K+1 channels or more. They lie in the memory.
        """
        height, width = (padding.padded(side, STRIDE) for side in frames.shape[1:3])
        sizes = [(height // factor, width // factor) for factor in (1, 2, 4, 8)]
        seen = self._maps("seen", sizes[0], self._seen)
        self._loops.see(frames, flow, *sizes[0], seen)
        fine = self._convolved("fine", seen, self._enter, sizes[1])
        middle = fine
        for number, layer in enumerate(self._middle):
            middle = self._convolved(f"middle{number}", middle, layer, sizes[2])
        coarse = middle
        for number, layer in enumerate(self._coarse):
            coarse = self._convolved(f"coarse{number % 2}", coarse, layer, sizes[3])
        middle = self._joined("middle0", coarse, middle, self._up_middle, sizes[2])
        fine = self._joined("seen", middle, fine, self._up_fine, sizes[1])
        return cast(Floats, self._convolved("logits", fine, self._leave, sizes[1], wide=True))

    def _layer(self, convolution: nn.Module, stride: int = 1, *, inputs: int = 0, slope: float = 0.0) -> Convolution:
        """Pack a layer. `inputs`: channels of the maps it sees, 0: as many as its own have; `slope`: 1 for no ReLU."""
        layer = _parameters(convolution, slope)
        pack = narrow if len(layer.bias) == packing.NARROW else direct
        return pack(layer, stride, self._arithmetic, inputs or channels_of(layer.weight.shape[1]))

    def _joining(self, convolution: nn.Module, small_inputs: int) -> Joining:
        """Pack a layer whose `small_inputs` first channels are those of a map that is enlarged by two."""
        layer = _parameters(convolution, 0.0)
        small, fine = layer.weight[:, :small_inputs], layer.weight[:, small_inputs:]
        small, fine = (packing.widened(part, 1, channels_of(part.shape[1])) for part in (small, fine))
        windows = fine.permute(2, 3, 1, 0)
        neighbours = torch.cat((F.pad(windows, (0, 0, 0, 0, 0, 1)), F.pad(windows, (0, 0, 0, 0, 1, 0))), 3)
        step = min(amx_tiles.STEP, 3 * small.shape[1], 4 * fine.shape[1])
        return Joining(
            packing.packed(_summed(small), self._arithmetic, step),
            packing.packed(neighbours.reshape(1, 3, -1, 2 * len(fine)), self._arithmetic, step),
            packing.activation(layer.bias.repeat(2), layer.slopes.repeat(2)),
            len(fine),
        )

    def _convolved(
        self, name: str, maps: Array, layer: Convolution, size: tuple[int, int], *, wide: bool = False
    ) -> Array:
        out = self._maps(name, size, layer.outputs, wide=wide)
        loops = self._loops
        if layer.outputs == packing.NARROW:
            loop = loops.narrow_wide if wide else loops.narrow
        else:
            loop = loops.direct_wide if wide else loops.direct
        loop(maps, layer.weights, layer.activation, layer.stride, *size, out)
        return out

    def _joined(self, name: str, small: Array, fine: Array, layer: Joining, size: tuple[int, int]) -> Array:
        out = self._maps(name, size, layer.outputs)
        self._loops.join(small, fine, layer.small_weights, layer.fine_weights, layer.activation, *size, out)
        return out

    def _maps(self, name: str, size: tuple[int, int], channels: int, *, wide: bool = False) -> Array:
        kind = np.float32 if wide else self._kind
        return self._memory.take(name, kind, *packing.bordered(*size), channels)


def channels_of(number: int) -> int:
    """Return how many channels a head's maps of so many have: with two neighbours, whole vectors."""
    return -(-number // packing.NARROW) * packing.NARROW


def _parameters(convolution: nn.Module, slope: float) -> LayerParameters:
    """Read a layer, with outputs of zeros up to those of its maps."""
    layer = cast(nn.Conv2d, convolution)
    assert layer.bias is not None
    outputs = channels_of(len(layer.bias))
    weight, bias = (packing.widened(values.detach(), 0, outputs) for values in (layer.weight, layer.bias))
    return LayerParameters(weight, bias, torch.full_like(bias, slope))


def _summed(weight: Tensor) -> Tensor:
    """Sum weights OxIx3x3 for an enlarged map into those for the small one, by even and odd rows: 2x2x3Ix2O.

    Of each two rows by three pixels; O for even columns, then O for odd ones.
    """
    outputs, inputs = weight.shape[:2]
    sums = weight.new_zeros(2, 2, 3, inputs, 2, outputs)
    for odd_row in (0, 1):
        for odd_column in (0, 1):
            for tap_y in range(3):
                for tap_x in range(3):
                    # Even rows see the small rows -1 and 0, odd ones 0 and 1: kernels of two rows.
                    y = TAPS[odd_row][tap_y] - odd_row
                    x = TAPS[odd_column][tap_x]
                    sums[odd_row, y, x, :, odd_column] += weight[:, :, tap_y, tap_x].T
    return sums.reshape(2, 2, 3 * inputs, 2 * outputs)
