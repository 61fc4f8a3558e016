"""The GPU path: weights in the convolutions' own type and layout, one Triton pass between two of them, CUDA graphs.

Flow, mask and coordinates are float32 whatever the convolutions' type. The rows of a batch run together, through each
block those that chose it. Needs triton, which torch's CUDA build brings.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn import conv_mean
from model.dmvfn.network import DMVFN
from model.dmvfn.routing import normalise
from model.dmvfn.warp import blend, warp
from model.inference import padding, torch_path
from model.inference.cpu.runner import Estimate
from model.inference.cuda.graphs import Function, Graphs, record
from model.inference.cuda.weights import AlignedBlock, AlignedLayer, align
from model.inference.weight_cache import WeightCache

_log = logging.getLogger(__name__)

#: Least agreement with plain torch, PSNR in dB of frames: a device whose compiler goes wrong must not serve wrong
#: frames. Far below what rounding to bfloat16 costs, far above what a mistake would give.
LEAST_AGREEMENT = 40.0

#: One caller at a time: recorded calls share their working memory.
_turn = threading.RLock()
_accelerated: WeightCache[CudaRunner | None] = WeightCache()


def of(network: DMVFN, *frames: Tensor) -> CudaRunner | None:
    """Return the network prepared for its GPU, or None where only plain torch can run it or these frames.

    In autocast's type where that is on, else float32. Prepared and tried against plain torch at the first call, and
    again after its weights were replaced or changed in place; where it fails, that is logged, once.
    """
    if not _fits(frames) or not available():
        return None
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else torch.float32

    def make() -> CudaRunner | None:
        fits = _fits(network.parameters())
        return proved(network, lambda: CudaRunner(network, kind, Graphs(record))) if fits else None

    return _accelerated.of(network, make, kind)


def _fits(tensors: Iterable[Tensor]) -> bool:
    return all(tensor.is_cuda and tensor.dtype == torch.float32 for tensor in tensors)


def release(network: DMVFN) -> None:
    """Give back the memory that recorded calls of `network` keep."""
    ready = _accelerated.last(network)
    if ready is not None:
        ready.release()


@functools.cache
def available() -> bool:
    """Tell whether triton is installed."""
    return find_spec("triton") is not None


def proved(network: DMVFN, prepare: Callable[[], CudaRunner], calls: int = 3) -> CudaRunner | None:
    """Return what `prepare()` makes if it answers here what plain torch answers; else None, with a warning.

    Asked `calls` times: the first is launched piece by piece, the second recorded, the third replayed.
    """
    try:
        ready = prepare()
        agreement = min(ready.agreement(network) for _ in range(calls))
    except Exception as error:  # whatever a compiler or a driver may raise: plain torch can serve all the same
        _log.warning("the GPU path cannot run here, plain torch serves: %s: %s", type(error).__name__, error)
        return None
    if not agreement >= LEAST_AGREEMENT:
        _log.warning("the GPU path is %.1f dB from plain torch here, which serves in its place", agreement)
        return None
    return ready


class CudaRunner:
    """A network's weights for inference in one floating type, on the device they are on. A copy."""

    @torch.inference_mode()
    def __init__(self, network: DMVFN, kind: torch.dtype, graphs: Graphs | None = None) -> None:
        """Copy the weights as `kind` (float32, float16, bfloat16). Without `graphs` launches go one by one."""
        # Here, because triton is optional.
        from model.inference.cuda import kernels as cuda_kernels

        self._loops = cuda_kernels
        self._kind, self._graphs = kind, graphs
        self._blocks = [align(network.block(i), kind) for i in range(network.config.blocks)]
        weights = network.get_parameter
        self._routing = weights("routing.0.weight").to(kind).contiguous(memory_format=torch.channels_last)
        self._routing_bias = weights("routing.0.bias").to(kind, copy=True)
        self._routing_mean = weights("routing.2.weight").clone(), weights("routing.2.bias").clone()
        self._logits = weights("l1.weight").clone(), weights("l1.bias").clone()
        self._expected = network.config.expected_blocks

    @torch.inference_mode()
    def probabilities(self, previous: Tensor, current: Tensor) -> Tensor:
        """Estimate routing probabilities Bxn of frames Bx3xhxw, padded here."""
        return self._call("routing", self._route, padding.pad(previous), padding.pad(current))[0]

    @torch.inference_mode()
    def predict(self, previous: Tensor, current: Tensor, routes: Sequence[Sequence[bool]]) -> Estimate:
        """Predict from frames Bx3xhxw of any size along each sample's route: frame, flow and mask of that size.

        A sample without a block answers the current frame, no flow and an even mask.
        """
        rows = [[i for i, route in enumerate(routes) if route[block]] for block in range(len(self._blocks))]
        function = functools.partial(self._run, rows)
        # Which rows go where differs from batch to batch where routes do: a recording would never be used again.
        key = tuple(map(bool, rows)) if all(len(some) in (0, len(routes)) for some in rows) else None
        frame, flow, mask = self._call(key, function, padding.pad(previous), padding.pad(current))
        height, width = previous.shape[2:]
        frame = padding.crop(frame, height, width)
        for i, route in enumerate(routes):
            if not any(route):
                frame[i] = current[i]
        return Estimate(frame, padding.crop(flow, height, width), padding.crop(mask, height, width))

    @torch.inference_mode()
    def blend(self, previous: Tensor, current: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
        """Warp and mix whole frames Bx3xhxw by flow Bx4xhxw (pixels) and mask Bx1xhxw (logits)."""
        state = self._last(flow, mask)
        with torch.cuda.device(previous.get_device()):
            return self._loops.finish(self._last(previous, current), torch.zeros_like(state), state)[0]

    def release(self) -> None:
        """Forget recorded calls."""
        with _turn:
            if self._graphs is not None:
                self._graphs.clear()

    @torch.inference_mode()
    def agreement(self, network: DMVFN) -> float:
        """Measure PSNR in dB of frames from here against plain torch's: the worst of the full and two mixed routes."""
        noise = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
        previous = F.avg_pool2d(noise, 9, 1).to(self._routing.device)
        current = previous.roll((1, 2), (2, 3))
        blocks, worst = len(self._blocks), float("inf")
        for routes in ([[True] * blocks] * 2, [[i % 2 == row for i in range(blocks)] for row in (0, 1)]):
            flow, mask = torch_path.estimate(network, previous, current, torch.tensor(routes))
            reference = blend(warp(previous, flow[:, :2]), warp(current, flow[:, 2:]), mask)
            error = (self.predict(previous, current, routes).frame - reference).square().mean((1, 2, 3)).max()
            worst = min(worst, float(-10 * torch.log10(error + 1e-12)))
        return worst

    def _call(self, key: object, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        # Triton launches on the current device. Not under autocast: its copies of weights would be gone at a replay.
        first = inputs[0]
        with _turn, torch.cuda.device(first.get_device()), torch.autocast(first.device.type, enabled=False):
            if self._graphs is None or key is None:
                return function(*inputs)
            return self._graphs((key, first.shape), function, *inputs)

    def _route(self, previous: Tensor, current: Tensor) -> tuple[Tensor]:
        frames = torch.cat((previous, current), 1).to(self._kind, memory_format=torch.channels_last)
        maps = F.conv2d(frames, self._routing, self._routing_bias, 1, 1).relu_()
        features = conv_mean.mean_of_convolution(maps, *self._routing_mean)
        return (normalise(F.linear(features, *self._logits), self._expected),)

    def _run(self, rows_of: Sequence[Sequence[int]], previous: Tensor, current: Tensor) -> tuple[Tensor, ...]:
        """Run padded frames through every block, each for the rows that chose it -> frame, flow, mask."""
        frames = self._last(previous, current)
        state = torch.zeros_like(frames)
        # What a row's last block answered: the next pass over memory adds it to the state.
        step = torch.zeros_like(frames, dtype=self._kind)
        for block, rows in zip(self._blocks, rows_of, strict=True):
            if len(rows) == len(frames):
                step = self._increment(block, frames, step, state)
            elif rows:
                pick = torch.tensor(rows, device=frames.device)
                part = state[pick]
                step[pick] = self._increment(block, frames[pick], step[pick], part)
                state[pick] = part
        return self._loops.finish(frames, step, state)

    def _increment(self, block: AlignedBlock, frames: Tensor, step: Tensor, state: Tensor) -> Tensor:
        """Add `step` to `state` in place; return the increment of `block` after that. All BxHxWx8."""
        inputs = frames.new_empty(*frames.shape[:3], self._loops.INPUT, dtype=self._kind)
        self._loops.advance(frames, step, state, inputs)
        full = inputs.permute(0, 3, 1, 2)
        entry = self._chain(_resized(full, 1 / block.scale), *block.entry)
        motion = self._convolve(block.body[2], self._chain(entry, *block.body[:2]), entry)
        motion = _resized(self._convolve(block.squeeze, motion), 2 * block.scale)
        both = torch.cat((motion, self._chain(full, *block.spatial)), 1)
        out = F.conv_transpose2d(both, block.last, block.last_bias, 2, 1)
        return out.permute(0, 2, 3, 1).contiguous()

    def _chain(self, maps: Tensor, *layers: AlignedLayer) -> Tensor:
        for layer in layers:
            maps = self._convolve(layer, maps)
        return maps

    def _convolve(self, layer: AlignedLayer, maps: Tensor, residual: Tensor | None = None) -> Tensor:
        out = F.conv2d(maps, layer.weight, None, layer.stride, 1)
        return self._loops.activate(
            out.contiguous(memory_format=torch.channels_last), layer.bias, layer.slopes, residual
        )

    def _last(self, *maps: Tensor) -> Tensor:
        """Concatenate maps BxCxHxW, with zeros up to 8 channels -> BxHxWx8, float32."""
        stack = torch.cat(maps, 1).float().permute(0, 2, 3, 1)
        return F.pad(stack, (0, self._loops.PLACES - stack.shape[3])).contiguous()


def _resized(maps: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return maps
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
