"""How far each part of the network is from what the device could do: operations, bytes, the floor they set, measured.

    python -m benchmarks.roofline [--size 512x1024] [--device cpu|cuda] [--dtype float32|float16|bfloat16] [--threads N]

The floor is the time of the part's convolutions alone, each as it is published, at the device's own best rate of matrix
products or of copying memory, whichever binds; both are measured here first. A rewrite that multiplies less, such as
Winograd's, may pass below it; what is not a convolution (warps, resizing) adds nothing to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from benchmarks import forward, machine
from benchmarks.contenders import Run
from model import flops
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.flops import LayerCost
from model.inference import predict as inference


class Peaks(NamedTuple):
    """The best that this device did."""

    products: float  #: multiply-adds a second
    copying: float  #: bytes a second, read or written


class Work(NamedTuple):
    """What a part cannot do without."""

    macs: float
    bytes: float
    floor: float  #: seconds


def routing(height: int, width: int, config: ModelConfig) -> LayerCost:
    """The routing's only convolution that runs; its maps are summed, and need never be written."""
    return LayerCost(height * width * 9 * 6 * config.routing_width, height * width * 6)


def work(found: Iterable[LayerCost], size: int, peaks: Peaks) -> Work:
    """Sums over layers whose values take `size` bytes each; each layer waits for the slower of its two limits."""
    macs = floor = moved = 0.0
    for operations, values in found:
        macs, moved = macs + operations, moved + values * size
        floor += max(operations / peaks.products, values * size / peaks.copying)
    return Work(macs, moved, floor)


def best(run: Run, seconds: float) -> float:
    """The fastest of many calls."""
    return forward.in_turn({"it": run}, seconds, time.perf_counter)["it"]


def peaks(device: str, kind: torch.dtype, seconds: float) -> Peaks:
    """Of square matrix products and of copying an array far larger than any cache."""
    side = 8192 if device == "cuda" else 2048
    left = torch.rand(side, side, device=device).to(kind)
    out = torch.empty_like(left)
    source = torch.rand(1 << 26, device=device)
    target = torch.empty_like(source)
    product = best(lambda: torch.mm(left, left, out=out), seconds)
    copy = best(lambda: target.copy_(source), seconds)
    return Peaks(side**3 / product, 2 * source.numel() * source.element_size() / copy)


def measured(network: DMVFN, height: int, width: int, seconds: float) -> dict[str, float]:
    """Seconds of the routing, of one more block of each scale, and of all nine blocks with the last blend."""
    previous, current = forward.frames(network, height, width)

    def blocks(bits: str) -> Callable[[], torch.Tensor]:
        chosen = forward.route(bits)
        return lambda: inference.predict(network, previous, current, chosen).frame

    runs: dict[str, Run] = {
        "routing": lambda: inference.probabilities(network, previous, current),
        "first": blocks("100000000"),
        "scale 4": blocks("110000000"),
        "scale 2": blocks("100100000"),
        "scale 1": blocks("100000100"),
        "nine blocks": blocks(forward.FULL),
    }
    took = forward.in_turn(runs, seconds, time.perf_counter)
    first = took.pop("first")
    return {name: value - (first if name.startswith("scale") else 0.0) for name, value in took.items()}


def main() -> int:
    """Print the peaks and the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.roofline", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="512x1024", help="height x width, multiples of 16")
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = DMVFN().eval().requires_grad_(False).to(arguments.device)
    height, width = map(int, arguments.size.split("x"))
    kind = getattr(torch, arguments.dtype)
    limits = peaks(arguments.device, kind, arguments.seconds / 5)
    print(machine.describe())
    print(f"{arguments.device}, {arguments.dtype}, {arguments.threads} threads, one pair of {arguments.size}")
    print(f"best here: {limits.products / 1e9:.0f} G multiply-adds/s, {limits.copying / 1e9:.1f} GB/s copied\n")
    with torch.autocast(arguments.device, kind, enabled=kind != torch.float32):
        took = measured(network, height, width, arguments.seconds)
    config = network.config
    blocks = [flops.layers(height, width, i, config) for i in range(config.blocks)]
    parts = {
        "routing": [routing(height, width, config)],
        "scale 4": blocks[1],
        "scale 2": blocks[3],
        "scale 1": blocks[6],
        "nine blocks": [layer for found in blocks for layer in found],
    }
    print("| part | G multiply-adds | MB | floor, ms | measured, ms | measured / floor |\n|---|---|---|---|---|---|")
    for name, found in parts.items():
        macs, moved, floor = work(found, kind.itemsize, limits)
        print(
            f"| {name} | {macs / 1e9:.2f} | {moved / 1e6:.0f} | {floor * 1e3:.2f} | {took[name] * 1e3:.2f} | "
            f"{took[name] / floor:.2f} |"
        )
    print(f"\nagain: python -m benchmarks.roofline --size {arguments.size} --device {arguments.device} ", end="")
    print(f"--dtype {arguments.dtype} --threads {arguments.threads}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
