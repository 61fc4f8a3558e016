"""The full route as one graph for other runtimes: ONNX or torch.export, checked against the network it came from.

Only all nine blocks: a route decided inside the graph needs a data-dependent branch, which neither format carries
between runtimes. The graph has one frame size; the batch is one pair.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model import checkpoint
from model.cli.values import refuse, whole
from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.dmvfn.warp import blend, warp
from model.inference import padding
from model.inference import predict as inference

#: Largest difference of an answer (0..1) that an export may show and still be called equal.
TOLERANCE = 1e-4


class FullRoute(nn.Module):
    """The published inference form with every block: routing, and a blend after each block, as it computes them."""

    def __init__(self, network: DMVFN) -> None:
        super().__init__()
        self.network = network

    def forward(self, previous: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the next frame and the routing probabilities from frames 1x3xHxW in 0..1, sides multiples of 16."""
        probabilities = self._probabilities(previous, current)
        flow = torch.zeros_like(previous[:, :1]).expand(-1, 4, -1, -1)
        mask = flow[:, :1]
        warped_previous, warped_current, frame = previous, current, current
        for i in range(self.network.config.blocks):
            inputs = torch.cat((previous, current, warped_previous, warped_current, mask), 1)
            flow_step, mask_step = self.network.block(i)(inputs, flow)
            flow, mask = flow + flow_step, mask + mask_step
            warped_previous, warped_current = warp(previous, flow[:, :2]), warp(current, flow[:, 2:])
            frame = blend(warped_previous, warped_current, mask)
        return frame, probabilities

    def _probabilities(self, previous: Tensor, current: Tensor) -> Tensor:
        """Run the routing module as published, its second convolution and mean included."""
        features = self.network.routing(torch.cat((previous, current), 1)).mean((2, 3))
        return routing.normalise(self.network.l1(features), self.network.config.expected_blocks)


def to_onnx(network: DMVFN, path: Path, height: int, width: int) -> float:
    """Write an ONNX file; return the largest difference of its answer from ours.

    height, width: multiples of 16.
    """
    import onnxruntime  # type: ignore[import-untyped,import-not-found,unused-ignore]

    previous, current = _frames(height, width)
    with warnings.catch_warnings():
        # The exporter's own use of interfaces that its dependencies deprecate.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            FullRoute(network).eval(),
            (previous, current),
            str(path),
            input_names=["older", "newer"],
            output_names=["frame", "probabilities"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    frame = session.run(["frame"], {"older": previous.numpy(), "newer": current.numpy()})[0]
    return _difference(network, previous, current, torch.from_numpy(np.asarray(frame)))


def to_torch(network: DMVFN, path: Path, height: int, width: int) -> float:
    """Write a torch.export program (.pt2); return the largest difference of the reloaded one's answer from ours."""
    previous, current = _frames(height, width)
    torch.export.save(torch.export.export(FullRoute(network).eval(), (previous, current)), str(path))
    with torch.inference_mode():
        frame, _ = torch.export.load(str(path)).module()(previous, current)
    return _difference(network, previous, current, frame)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("target", type=Path, help="the file to write: .onnx or .pt2")
    parser.add_argument("--weights", required=True, help="the checkpoint to export (.safetensors)")
    parser.add_argument("--height", type=whole(1), default=512, help="frame height in pixels, a multiple of 16")
    parser.add_argument("--width", type=whole(1), default=1024, help="frame width in pixels, a multiple of 16")


def main(arguments: argparse.Namespace) -> int:
    """Export, compare, and print how far the answers lie apart; return the exit code."""
    writers = {".onnx": to_onnx, ".pt2": to_torch}
    height, width, target = arguments.height, arguments.width, arguments.target
    if target.suffix not in writers:
        return refuse(f"the file must end in .onnx or .pt2, not {target.suffix!r}")
    if (padding.padded(height), padding.padded(width)) != (height, width):
        return refuse(f"sides must be multiples of 16; the next are {padding.padded(height)}x{padding.padded(width)}")
    if not target.parent.is_dir():
        return refuse(f"{target.parent}: no such folder")
    try:
        network = checkpoint.load(arguments.weights)
    except checkpoint.CheckpointError as error:
        return refuse(error)
    difference = writers[target.suffix](network, target, height, width)
    print(f"{target}: full route at {height}x{width}, largest difference from ours {difference:.1e}")
    return 0 if difference <= TOLERANCE else 1


def _frames(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Generate a smooth pair that moves: noise would make every runtime's rounding look like an error."""
    y, x = torch.meshgrid(torch.arange(height) / 37.0, torch.arange(width) / 53.0, indexing="ij")
    waves = [torch.sin(x + shift) * torch.cos(y - shift) for shift in (0.0, 0.7, 1.9)]
    previous = (0.5 + 0.4 * torch.stack(waves))[None]
    return previous, previous.roll((2, 3), (2, 3))


def _difference(network: DMVFN, previous: Tensor, current: Tensor, frame: Tensor) -> float:
    full = torch.ones(1, network.config.blocks, dtype=torch.bool)
    return float((inference.predict(network, previous, current, full).frame - frame).abs().max())
