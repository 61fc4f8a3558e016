"""A head's convolutions as they run fastest on a processor: compiled loops, whose sums stay in registers.

They are the network's own (`model.inference.cpu`), in float32 or bfloat16. Needs numba.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from model.inference import padding
from model.inference.cpu import packing
from model.inference.cpu.packing import Array
from model.inference.cpu.weights import Convolution, direct
from model.inference.layers import LayerParameters
from model.mixing import head_kernels
from model.mixing.head import MixingHead
from model.mixing.working_memory import WorkingMemory
from model.motion.field import Floats, Pixels

#: The head halves a frame three times.
STRIDE = 8


class PreparedHead:
    """The convolutions of a head in evaluation; holds copies of its weights."""

    @torch.inference_mode()
    def __init__(self, head: MixingHead, memory: WorkingMemory, *, half: bool) -> None:
        """Take the weights, as bfloat16 where `half`: the processor must have instructions for it."""
        self._loops, self._half, self._memory = head_kernels.of(half), half, memory
        fine, middle, coarse = head.config.widths
        self._kind = np.uint16 if half else np.float32
        self._seen = packing.channels(len(head.config.candidates) + 4)
        self._enter = self._layer(head.enter[0], stride=2)
        self._middle = [
            self._layer(cast(nn.Sequential, layer)[0], 1 if number else 2) for number, layer in enumerate(head.middle)
        ]
        self._coarse = [
            self._layer(cast(nn.Sequential, layer)[0], 1 if number else 2) for number, layer in enumerate(head.coarse)
        ]
        self._up_middle = self._layer(head.up_middle[0], parts=(coarse, middle))
        self._up_fine = self._layer(head.up_fine[0], parts=(middle, fine))
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
        middle = self._convolved("middle0", self._beside(coarse, middle, sizes[2]), self._up_middle, sizes[2])
        fine = self._convolved("seen", self._beside(middle, fine, sizes[1]), self._up_fine, sizes[1])
        return cast(Floats, self._convolved("logits", fine, self._leave, sizes[1], wide=True))

    def _layer(
        self,
        convolution: nn.Module,
        stride: int = 1,
        parts: tuple[int, ...] = (),
        *,
        slope: float = 0.0,
    ) -> Convolution:
        """Pack a layer. `parts`: channels of the maps that lie side by side in its input; `slope`: 1 for no ReLU."""
        layer = cast(nn.Conv2d, convolution)
        assert layer.bias is not None
        weight = layer.weight.detach()
        parts = parts or (weight.shape[1],)
        pieces = [
            packing.widened(piece, 1, packing.channels(piece.shape[1])) for piece in torch.split(weight, list(parts), 1)
        ]
        parameters = LayerParameters(torch.cat(pieces, 1), layer.bias.detach(), torch.full_like(layer.bias, slope))
        return direct(parameters, stride, self._half, sum(piece.shape[1] for piece in pieces))

    def _convolved(
        self, name: str, maps: Array, layer: Convolution, size: tuple[int, int], *, wide: bool = False
    ) -> Array:
        out = self._maps(name, size, layer.outputs, wide=wide)
        loop = self._loops.direct_wide if wide else self._loops.direct
        loop(maps, layer.weights, layer.activation, layer.stride, *size, out)
        return out

    def _beside(self, small: Array, fine: Array, size: tuple[int, int]) -> Array:
        out = self._maps("beside", size, small.shape[2] + fine.shape[2])
        self._loops.beside(small, fine, *size, out)
        return out

    def _maps(self, name: str, size: tuple[int, int], channels: int, *, wide: bool = False) -> Array:
        kind = np.float32 if wide else self._kind
        return self._memory.take(name, kind, *packing.bordered(*size), channels)
