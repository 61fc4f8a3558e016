"""The CPU path: packed weights, compiled loops, no memory taken per call but the answer's.

Samples run one after the other, each through its own blocks: on a processor a batch gains nothing over that, a
skipped block costs nothing, and an answer cannot depend on its neighbours. Needs numba; `of` says if it can run.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn import conv_mean
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.dmvfn.routing import normalise
from model.inference import padding
from model.inference.cpu import precision, winograd
from model.inference.cpu.precision import Arithmetic
from model.inference.layers import LayerParameters
from model.inference.weight_cache import WeightCache

if TYPE_CHECKING:
    from model.inference.cpu.packing import Array
    from model.inference.cpu.weights import Convolution, Floats, FoldedBlock

#: Most spatial channels.
_MOST_SPATIAL = 8
#: Tiles that Winograd's products take at a time: fewer would read the weights too often, more would leave the cache.
_TILES_AT_A_TIME = 48
#: Bytes of what a block sees that are convolved at a time, in a core's cache beside weights and outputs; and most rows.
_WINDOW, _MOST_ROWS = 600_000, 16
#: Tiles that those of routing take: they have few channels.
_ROUTED_AT_A_TIME = 56
#: Numbers in a vector, by which rooms are larger than what lies in them.
_VECTOR = 16

#: One caller at a time: the buffers are shared, and so are the processor's cores.
_turn = threading.Lock()
_prepared: dict[Arithmetic, WeightCache[CpuRunner | None]] = {arithmetic: WeightCache() for arithmetic in Arithmetic}


class Estimate(NamedTuple):
    """Tensors of one batch, as in `model.inference.predict.Prediction`."""

    frame: Tensor
    flow: Tensor
    mask: Tensor


class Sight(NamedTuple):
    """What a block sees: where it `warps`, frames along flow and mask, bias still to be added; else `maps`."""

    state: Floats
    bias: Floats
    gather: Floats
    maps: Array
    warps: bool


def of(network: DMVFN, *frames: Tensor) -> CpuRunner | None:
    """Return the network prepared for this CPU, or None where only plain torch can run it or these frames.

    Prepared once; again after its weights were replaced or changed in place. Call it without frames to prepare
    a network as soon as it is loaded: the first request then finds everything in place. Under torch's autocast to
    bfloat16 its convolutions are of that type, where the processor has instructions for it.
    """
    if not _fits(frames) or not available(network.config):
        return None
    arithmetic = _arithmetic()
    if arithmetic is None:
        return None
    return _prepared[arithmetic].of(
        network, lambda: CpuRunner(network, arithmetic) if _fits(network.parameters()) else None
    )


def _arithmetic() -> Arithmetic | None:
    """Return in which arithmetic torch's autocast wants convolutions; None where only plain torch can do so."""
    if not torch.is_autocast_enabled("cpu"):
        return Arithmetic.FLOAT32
    return precision.bfloat16() if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None


def _fits(tensors: Iterable[Tensor]) -> bool:
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


@functools.cache
def available(config: ModelConfig) -> bool:
    """Tell whether numba is installed and the compiled loops know this variant's shapes."""
    return config.spatial_width <= _MOST_SPATIAL and find_spec("numba") is not None


class CpuRunner:
    """A network's weights and working memory for inference on the CPU, its convolutions in float32 or bfloat16.

    A copy: later changes of the network do not reach it. Memory grows to what the largest frame needs.
    """

    @torch.inference_mode()
    def __init__(self, network: DMVFN, arithmetic: Arithmetic = Arithmetic.FLOAT32) -> None:
        """Take the weights; the process must have been asked whether it may use this arithmetic (`precision`)."""
        # Here, because numba is optional, and because a machine's very first start compiles the loops for seconds.
        from model.inference.cpu import compiler, frame_kernels, join_kernels, kernels, packing, weights

        self._arithmetic, self._loops, self._blend = arithmetic, kernels.of(arithmetic), frame_kernels.blend
        self._half, self._seen = arithmetic.half, weights.seen(arithmetic)
        self._use_threads, self._bordered = compiler.use_threads, packing.bordered
        self._join_room = join_kernels.room_of
        self._blocks = [weights.fold(network.block(i), arithmetic) for i in range(network.config.blocks)]
        parameters = network.get_parameter
        bias = parameters("routing.0.bias")
        routing = LayerParameters(parameters("routing.0.weight"), bias, torch.zeros_like(bias))
        self._routing = weights.tiled(routing, Arithmetic.FLOAT32, weights.FRAMES)
        self._routing_mean = parameters("routing.2.weight").double(), parameters("routing.2.bias").double()
        self._logits = parameters("l1.weight").double(), parameters("l1.bias").double()
        self._expected = network.config.expected_blocks
        self._memory = packing.WorkingMemory()
        #: Whose frames lie in the rooms `gather` and `frames`, which `_load` alone writes.
        self._loaded: object = None

    @torch.inference_mode()
    def probabilities(self, previous: Tensor, current: Tensor, frames_key: object = None) -> Tensor:
        """Estimate routing probabilities Bxn of frames Bx3xhxw, padded here.

        frames_key: whoever passes the same object again passes the same frames, which may then still be loaded.
        """
        with _turn:
            self._threads()
            pairs = enumerate(zip(previous, current, strict=True))
            return torch.cat([self._probability(*pair, _row_key(frames_key, i)) for i, pair in pairs])

    @torch.inference_mode()
    def predict(
        self, previous: Tensor, current: Tensor, routes: Sequence[Sequence[bool]], frames_key: object = None
    ) -> Estimate:
        """Predict from frames Bx3xhxw of any size along each sample's route: frame, flow and mask of that size.

        A sample without a block answers the current frame, no flow and an even mask. frames_key: as `probabilities`.
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
                    key = _row_key(frames_key, i)
                    gather, state, bias = self._estimate(previous[i], current[i], blocks, key)
                    self._blend(state, bias, gather, frame[i].numpy(), flow[i].numpy(), mask[i].numpy())
                else:
                    frame[i], flow[i], mask[i] = current[i], 0, 0
        return Estimate(frame, flow, mask)

    @torch.inference_mode()
    def blend(self, previous: Tensor, current: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
        """Warp and mix whole frames Bx3xhxw by flow Bx4xhxw (pixels) and mask Bx1xhxw (logits)."""
        frame = torch.empty_like(previous, memory_format=torch.contiguous_format)
        height, width = (padding.padded(side) for side in previous.shape[2:])
        behind = width - previous.shape[3] + 2
        values = F.pad(torch.cat((flow, mask), 1).permute(0, 2, 3, 1), (0, 1, 1, behind))
        with _turn:
            self._threads()
            for i in range(len(previous)):
                gather, _ = self._load(previous[i], current[i], height, width)
                rest = flow[i].contiguous().numpy(), mask[i].contiguous().numpy()
                state = values[i].contiguous().numpy()
                self._blend(state, np.zeros(state.shape[2], np.float32), gather, frame[i].numpy(), *rest)
        return frame

    def _load(
        self, previous: Tensor, current: Tensor, height: int, width: int, key: object = None
    ) -> tuple[Floats, Array]:
        """Load frames 3xhxw into gather 2xHxWx4 and maps of HxW pixels, unless those of `key` were the last."""
        gather, frames = self._floats("gather", 2, height, width, 4), self._maps("frames", height, width, 6)
        if key is None or key != self._loaded:
            self._loaded = None
            self._loops.load(previous.numpy(), current.numpy(), height, width, gather, frames)
            self._loaded = key
        return gather, frames

    def _estimate(
        self, previous: Tensor, current: Tensor, blocks: Sequence[FoldedBlock], key: object
    ) -> tuple[Floats, Floats, Floats]:
        """Run 3xhxw through `blocks`: both frames 2xHxWx4, flow and mask Hx(W+3)x6, and the bias to add to these."""
        height, width = (padding.padded(side) for side in previous.shape[1:])
        gather, maps = self._load(previous, current, height, width, key)
        values = len(blocks[0].bias)
        state, bias = self._floats("state", height, width + 3, values), np.zeros(values, np.float32)
        state.fill(0)
        for order, block in enumerate(blocks):
            self._run(block, Sight(state, bias, gather, maps, order > 0), (height, width))
            bias = bias + block.bias
        return gather, state, bias

    def _run(self, block: FoldedBlock, sight: Sight, size: tuple[int, int]) -> None:
        """Add one block's increment, but for its bias, to the state that it sees."""
        middle, quarter = _shrunk(size, 2), _shrunk(size, 4 * block.scale)
        begun, spatial = self._both_paths(block, sight, size)
        entry = self._maps("entry1", *quarter, block.entry[1].outputs)
        self._convolve(self._loops.direct, block.entry[1], begun, quarter, entry)
        motion = self._inner("maps0", block.body[0], entry, quarter)
        motion = self._inner("maps1", block.body[1], motion, quarter)
        motion = self._inner("maps0", block.body[2], motion, quarter, entry)
        motion = self._tiled("squeezed", block.squeeze, motion, quarter, wide=True)
        room = self._floats("join", 2 * self._workers, self._join_room(quarter[1], middle[1]))
        last = (motion, block.motion_corners, *quarter, 2 * block.scale)
        self._loops.join(*last, spatial, block.spatial_corners, *middle, room, sight.state)

    def _both_paths(self, block: FoldedBlock, sight: Sight, size: tuple[int, int]) -> tuple[Array, Array]:
        """Return the first maps of the motion's path, and the last of the other, of what the block sees."""
        entry_layer, spatial_layer = block.entry[0], block.spatial[0]
        if not sight.warps:
            entry_layer, spatial_layer = block.entry_first, block.spatial_first
        low, half, middle = _shrunk(size, block.scale), _shrunk(size, 2 * block.scale), _shrunk(size, 2)
        entry = self._maps("entry0", *half, entry_layer.outputs)
        spatial = self._floats("spatial0", *self._bordered(*middle), spatial_layer.outputs)
        channels = self._seen if sight.warps else sight.maps.shape[2]
        room = self._window(size[1], channels)
        if block.shared:
            layer = entry_layer
            self._loops.begin_beside(*sight, room, layer.weights, layer.activation, *middle, entry, spatial)
        else:
            small, layer = self._maps("reduced", *low, channels), spatial_layer
            self._loops.begin(*sight, room, layer.weights, layer.activation, *middle, spatial, block.scale, small)
            self._convolve(self._loops.direct, entry_layer, small, half, entry)
        second = self._maps("spatial1", *middle, block.spatial[1].outputs)
        self._convolve(self._loops.narrow, block.spatial[1], spatial, middle, second)
        return entry, second

    def _window(self, width: int, channels: int) -> Array:
        """Return the room for rows of what a block sees, as many as fit into a core's cache."""
        across = self._bordered(1, width)[1]
        rows = _WINDOW // (across * channels * (2 if self._half else 4))
        # Rows of outputs: a multiple of the scales' steps.
        most = max(2, min(_MOST_ROWS, rows // 2) // 2 * 2)
        return self._numbers("window", 2 * self._workers, 2 * most + 1, across, channels)

    def _convolve(
        self, loop: Callable[..., None], layer: Convolution, maps: Array, size: Sequence[int], *outs: Array
    ) -> None:
        """Convolve `maps` 3x3 to `size`, with PReLU, by `loop` into `outs`."""
        loop(maps, layer.weights, layer.activation, layer.stride, *size, *outs)

    def _inner(
        self, name: str, layer: Convolution, maps: Array, size: tuple[int, int], residual: Array | None = None
    ) -> Array:
        """Convolve `maps` of `size` 3x3, with PReLU, plus `residual`, into the room `name`."""
        if self._arithmetic is not Arithmetic.AMX:
            return self._tiled(name, layer, maps, size, residual)
        out, add = self._maps(name, *size, layer.outputs), residual is not None
        self._loops.inner(maps, layer.weights, layer.activation, residual if add else maps, add, *size, out)
        return out

    def _tiled(
        self, name: str, layer: Convolution, maps: Array, size: tuple[int, int], residual: Array | None = None,
        *, wide: bool = False,
    ) -> Array:  # fmt: skip
        """Convolve `maps` of `size` 3x3, with PReLU, plus `residual`, into the room `name`; in float32 where `wide`."""
        sides = self._bordered(*size)
        across, down = (sides[1] - 2) // 4, (sides[0] - 2) // 4
        # No fewer groups than threads, where there are so many rows.
        rows = max(1, min(-(-_TILES_AT_A_TIME // across), -(-down // self._workers)))
        room = self._floats if wide else self._numbers
        tiles = room("tiles", self._workers, winograd.PRODUCTS * (rows * across * maps.shape[2] + _VECTOR))
        sums = self._floats("sums", self._workers, winograd.PRODUCTS * (rows * across * layer.outputs + _VECTOR))
        out = room(name, *sides, layer.outputs)
        loop = self._loops.tiled_wide if wide else self._loops.inner
        add = residual is not None
        loop(maps, layer.weights, layer.activation, residual if add else maps, add, *size, rows, tiles, sums, out)
        return out

    def _probability(self, previous: Tensor, current: Tensor, key: object) -> Tensor:
        """Route frames 3xhxw: 1xn. The second convolution and its mean are linear: sums of its input suffice."""
        height, width = (padding.padded(side) for side in previous.shape[1:])
        _, frames = self._load(previous, current, height, width, key)
        channels = len(self._routing_mean[0][0])
        outputs = len(self._routing.activation) // 2  # in whole vectors
        sums = self._floats("routed", height, 3 * outputs)
        count, products = _ROUTED_AT_A_TIME, winograd.PRODUCTS
        tiles = self._floats("tiles", self._workers, products * (count * frames.shape[2] + _VECTOR))
        room = self._floats("sums", self._workers, products * count * outputs)
        self._loops.row_sums(frames, self._routing.weights, self._routing.activation, count, tiles, room, sums)
        rows = torch.from_numpy(sums).view(1, height, 3, outputs)[..., :channels].double()
        features = conv_mean.mean_of_rows(rows, *self._routing_mean, width)
        logits = F.linear(features, *self._logits)
        return normalise(logits.float(), self._expected)

    def _threads(self) -> None:
        self._workers = self._use_threads(torch.get_num_threads())

    def _maps(self, name: str, height: int, width: int, channels: int) -> Array:
        """Return maps of height x width pixels, with their border."""
        return self._numbers(name, *self._bordered(height, width), channels)

    def _numbers(self, name: str, *shape: int) -> Array:
        """Return working memory of the type of maps, kept from call to call with what its last user left in it."""
        return self._memory.take(name, np.uint16 if self._half else np.float32, *shape)

    def _floats(self, name: str, *shape: int) -> Floats:
        """Return such memory of float32."""
        return self._memory.take(name, np.float32, *shape)


def _shrunk(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return size[0] // factor, size[1] // factor


def _row_key(frames_key: object, row: int) -> object:
    return None if frames_key is None else (frames_key, row)
