"""The CPU path: folded weights, compiled loops, matrix products, no memory taken per call but the answer's.

Samples run one after the other, each through its own blocks: on a processor a batch gains nothing over that, a
skipped block costs nothing, and an answer cannot depend on its neighbours. Needs numba; `of` says if it can run.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn import conv_mean
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.dmvfn.routing import normalise
from model.inference import padding
from model.inference.cpu import winograd
from model.inference.cpu.weights import VALUES, WINDOW, Array, Convolution, FoldedBlock, Products, fold
from model.inference.layers import LANES
from model.inference.weight_cache import WeightCache

#: Rows of routing maps held at once: about this many floats, so that they never leave the cache.
_BAND_FLOATS = 1 << 19

#: One caller at a time: the buffers are shared, and so are the processor's cores.
_turn = threading.Lock()
_prepared: WeightCache[CpuRunner | None] = WeightCache()


class Estimate(NamedTuple):
    """Tensors of one batch, as in `model.inference.predict.Prediction`."""

    frame: Tensor
    flow: Tensor
    mask: Tensor


def of(network: DMVFN, *frames: Tensor) -> CpuRunner | None:
    """Return the network prepared for this CPU, or None where only plain torch can run it or these frames.

    Prepared once; again after its weights were replaced or changed in place. Call it without frames to prepare
    a network as soon as it is loaded: the first request then finds everything in place.
    """
    # Under autocast (a smaller type was asked for) torch would hand the compiled loops tensors of that type.
    if not _fits(frames) or torch.is_autocast_enabled("cpu") or not available(network.config):
        return None
    return _prepared.of(network, lambda: CpuRunner(network) if _fits(network.parameters()) else None)


def _fits(tensors: Iterable[Tensor]) -> bool:
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


@functools.cache
def available(config: ModelConfig) -> bool:
    """Tell whether numba is installed and the compiled loops know this variant's shapes."""
    return config.spatial_width <= LANES and find_spec("numba") is not None


class CpuRunner:
    """A network's weights and working memory for float32 inference on the CPU.

    A copy: later changes of the network do not reach it. Memory grows to what the largest frame needs.
    """

    @torch.inference_mode()
    def __init__(self, network: DMVFN) -> None:
        # Here, because numba is optional, and because a machine's very first start compiles them for seconds.
        from model.inference.cpu import compiler, frame_kernels, winograd_kernels

        self._frames, self._tiles = frame_kernels, winograd_kernels
        self._use_threads = compiler.use_threads
        self._blocks = [fold(network.block(i)) for i in range(network.config.blocks)]
        weights = network.get_parameter
        self._routing = Convolution(
            weights("routing.0.weight").clone(memory_format=torch.channels_last),
            weights("routing.0.bias").clone(),
            np.zeros(network.config.routing_width, np.float32),
            1,
        )
        self._routing_mean = weights("routing.2.weight").double(), weights("routing.2.bias").double()
        self._logits = weights("l1.weight").double(), weights("l1.bias").double()
        self._expected = network.config.expected_blocks
        self._rooms: dict[str, Array] = {}

    @torch.inference_mode()
    def probabilities(self, previous: Tensor, current: Tensor) -> Tensor:
        """Estimate routing probabilities Bxn of frames Bx3xhxw, padded here."""
        with _turn:
            self._threads()
            return torch.cat([self._probability(a, b) for a, b in zip(previous, current, strict=True)])

    @torch.inference_mode()
    def predict(self, previous: Tensor, current: Tensor, routes: Sequence[Sequence[bool]]) -> Estimate:
        """Predict from frames Bx3xhxw of any size along each sample's route: frame, flow and mask of that size.

        A sample without a block answers the current frame, no flow and an even mask.
        """
        count, _, height, width = previous.shape
        frame, flow = (
            torch.empty_like(previous, memory_format=torch.contiguous_format),
            previous.new_empty(count, 4, height, width),
        )
        mask = previous.new_empty(count, 1, height, width)
        with _turn:
            self._threads()
            for i, route in enumerate(routes):
                blocks = [block for block, runs in zip(self._blocks, route, strict=True) if runs]
                if blocks:
                    gather, state, bias = self._estimate(previous[i], current[i], blocks)
                    self._frames.blend(state, bias, gather, frame[i].numpy(), flow[i].numpy(), mask[i].numpy())
                else:
                    frame[i], flow[i], mask[i] = current[i], 0, 0
        return Estimate(frame, flow, mask)

    @torch.inference_mode()
    def blend(self, previous: Tensor, current: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
        """Warp and mix whole frames Bx3xhxw by flow Bx4xhxw (pixels) and mask Bx1xhxw (logits)."""
        frame = torch.empty_like(previous, memory_format=torch.contiguous_format)
        state = F.pad(torch.cat((flow, mask), 1).permute(0, 2, 3, 1), (0, VALUES - 5, 1, 1))
        height, width = previous.shape[2:]
        nothing = np.zeros(VALUES, np.float32)
        with _turn:
            self._threads()
            gather, frames = self._room("gather", 2, height, width, 4), self._room("frames", height, width, 6)
            for i in range(len(previous)):
                self._frames.load(previous[i].numpy(), current[i].numpy(), gather, frames)
                rest = flow[i].contiguous().numpy(), mask[i].contiguous().numpy()
                self._frames.blend(state[i].contiguous().numpy(), nothing, gather, frame[i].numpy(), *rest)
        return frame

    def _estimate(self, previous: Tensor, current: Tensor, blocks: Sequence[FoldedBlock]) -> tuple[Array, Array, Array]:
        """Run 3xhxw through `blocks`: both frames 2xHxWx4, flow and mask Hx(W+2)x6, and the bias to add to these."""
        height, width = (padding.padded(side) for side in previous.shape[1:])
        gather, frames = self._room("gather", 2, height, width, 4), self._room("frames", height, width, 6)
        self._frames.load(previous.numpy(), current.numpy(), gather, frames)
        state, bias = self._room("state", height, width + 2, VALUES), np.zeros(VALUES, np.float32)
        state.fill(0)
        for order, block in enumerate(blocks):
            inputs = frames
            if order:
                inputs = self._room("seen", height, width, 17)
                self._frames.advance(state, bias, gather, inputs, order == 1)
            self._run(block, inputs, state, first=not order)
            bias = bias + block.bias
        return gather, state, bias

    def _run(self, block: FoldedBlock, inputs: Array, state: Array, *, first: bool) -> None:
        """Add one block's increment, but for its bias, to `state`."""
        height, width, channels = inputs.shape
        small = inputs
        if block.scale > 1:
            small = self._room("reduced", height // block.scale, width // block.scale, channels)
            self._frames.reduce(inputs, block.scale, small)
        entry = self._activated(block.entry_first if first else block.entry[0], small)
        entry = self._activated(block.entry[1], entry)
        nothing = entry[:0]
        motion = self._winograd("maps0", entry, block.body[0], nothing)
        motion = self._winograd("maps1", motion, block.body[1], nothing)
        motion = self._winograd("maps0", motion, block.body[2], entry)
        motion = self._winograd("maps1", motion, block.squeeze, nothing)
        low_height, low_width, outputs = motion.shape
        taps = self._room("taps", low_height, low_width, WINDOW)
        torch.mm(torch.from_numpy(motion).view(-1, outputs), block.taps, out=torch.from_numpy(taps).view(-1, WINDOW))
        spatial = self._activated(block.spatial_first if first else block.spatial[0], inputs)
        spatial = self._activated(block.spatial[1], spatial)
        room = self._room("join", self._workers, 2, low_width * WINDOW)
        self._frames.join(taps, 2 * block.scale, spatial, block.spatial_taps, room, state)

    def _activated(self, convolution: Convolution, maps: Array) -> Array:
        """Run a direct convolution of HxWxI and its PReLU."""
        out = convolution(maps)
        row = np.tile(convolution.slopes, out.shape[1])
        self._frames.prelu(out.reshape(out.shape[0], -1), row)
        return out

    def _winograd(self, name: str, maps: Array, layer: Products, residual: Array) -> Array:
        """Convolve hxwxI 3x3, apply PReLU, add `residual` -> hxwxO in the room `name`."""
        height, width, channels = maps.shape
        count, outputs = winograd.tiles(height, width), layer.weight.shape[2]
        strips = self._room("strips", self._workers, 7, (width + 7) * channels)
        tiles = self._room("tiles", winograd.PRODUCTS, count, channels)
        products = self._room("products", winograd.PRODUCTS, count, outputs)
        self._tiles.winograd_input(maps, strips, tiles)
        torch.bmm(torch.from_numpy(tiles), layer.weight, out=torch.from_numpy(products))
        out = self._room(name, height, width, outputs)
        room = self._room("untiled", self._workers, 7 * (width + 3) * outputs)
        self._tiles.winograd_output(products, layer.activation, residual, room, out)
        return out

    def _probability(self, previous: Tensor, current: Tensor) -> Tensor:
        """Route frames 3xhxw: 1xn. The second convolution and its mean are linear: sums of its input suffice."""
        height, width = (padding.padded(side) for side in previous.shape[1:])
        frames = self._room("frames", height + 2, width, 6)
        frames[0] = frames[-1] = 0
        self._frames.load(previous.numpy(), current.numpy(), self._room("gather", 2, height, width, 4), frames[1:-1])
        channels = self._routing.weight.shape[0]
        sums = self._room("sums", height, 3 * channels)
        step = max(1, _BAND_FLOATS // (width * channels))
        for top in range(0, height, step):
            rows = torch.from_numpy(frames[top : min(top + step, height) + 2])[None].permute(0, 3, 1, 2)
            maps = F.conv2d(rows, self._routing.weight, self._routing.bias, 1, (0, 1))
            self._frames.relu_sums(maps.permute(0, 2, 3, 1)[0].contiguous().numpy(), sums[top : top + step])
        rows = torch.from_numpy(sums).double().view(1, height, 3, channels)
        features = conv_mean.mean_of_rows(rows, *self._routing_mean, width)
        logits = F.linear(features, *self._logits)
        return normalise(logits.float(), self._expected)

    def _threads(self) -> None:
        self._workers = self._use_threads(torch.get_num_threads())

    def _room(self, name: str, *shape: int) -> Array:
        """Return working memory, kept from call to call: it holds whatever the last user of `name` left in it."""
        size = math.prod(shape)
        if name not in self._rooms or self._rooms[name].size < size:
            self._rooms[name] = np.empty(size, np.float32)
        return self._rooms[name][:size].reshape(shape)
