"""The network alone: our execution against the published form and other runtimes, side by side.

    python -m benchmarks.forward [--sizes 256x448 512x1024] [--seconds 40] [--threads N] [--plot docs/mixed.png]
    python -m benchmarks.forward --device cuda --dtype float16

Contenders take turns in one process and each keeps its fastest turn, so that what else the machine does touches
all alike; a figure is a ratio of two such minima. Random weights: time does not depend on their values.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks import contenders, machine
from benchmarks.contenders import Run
from model.dmvfn.network import DMVFN

#: The authors' average on Vimeo clips is four blocks; these four are used most often there.
TYPICAL = "100110100"
FULL = "1" * 9
Clock = Callable[[], float]


def route(bits: str, count: int = 1) -> torch.Tensor:
    """`count` equal rows of a route written in bits."""
    return torch.tensor([[bit == "1" for bit in bits]]).expand(count, -1).contiguous()


def frames(network: DMVFN, height: int, width: int, count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pairs that move by a few pixels, where the network is."""
    previous = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    previous = previous.to(next(network.parameters()).device)
    return previous, previous.roll((2, 3), (2, 3))


def timed(run: Run, clock: Clock) -> float:
    """Seconds of `clock` until the answer is there: a GPU is waited for."""
    begun = clock()
    if run().is_cuda:
        torch.cuda.synchronize()
    return clock() - begun


def in_turn(runs: Mapping[str, Run], seconds: float, clock: Clock) -> dict[str, float]:
    """The fastest of many turns of each, in seconds of `clock`; at least three turns each."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        # Not counted. A GPU records what it launches at the call after this one: slow, so that turn is not kept.
        timed(run, clock)
    end, turns = time.perf_counter() + seconds, 0
    while turns < 3 or time.perf_counter() < end:
        for name, run in runs.items():
            best[name] = min(best[name], timed(run, clock))
        turns += 1
    return best


def compare(
    network: DMVFN, height: int, width: int, seconds: float, clock: Clock, against: Sequence[str]
) -> dict[str, float]:
    """Seconds of every contender on one pair of this size, after checking that they agree."""
    previous, current = frames(network, height, width)
    threads = torch.get_num_threads()
    runs: dict[str, Run] = {
        "published": contenders.published(network, previous, current),
        "ours": contenders.ours(network, previous, current, route(FULL)),
        "ours, typical route": contenders.ours(network, previous, current, route(TYPICAL)),
        "plain torch": contenders.plain_torch(network, previous, current, route(FULL)),
    }
    other_runs = contenders.others(network, previous, current, threads, against)
    runs.update(other_runs)
    expected = runs["published"]()
    for name in ("ours", *other_runs):
        print(f"  {name} differs from published by {float((runs[name]() - expected).abs().max()):.1e}")
    return in_turn(runs, seconds, clock)


def mixed(network: DMVFN, height: int, width: int, seconds: float, clock: Clock) -> list[tuple[int, float]]:
    """(blocks chosen in all, seconds) of batches of four whose rows choose 0 to 9 blocks, unlike one another."""
    previous, current = frames(network, height, width, 4)
    batches = (
        (1, 1, 1, 1),
        (1, 2, 2, 3),
        (2, 3, 5, 2),
        (1, 9, 4, 2),
        (4, 5, 6, 5),
        (9, 3, 6, 6),
        (9, 9, 4, 6),
        (9,) * 4,
    )
    runs: dict[str, Run] = {}
    for batch in batches:
        # Blocks spread over all scales, the same order for every row.
        rows = torch.stack([route("".join("1" if i * 4 % 9 < n else "0" for i in range(9)))[0] for n in batch])
        runs[str(sum(batch))] = contenders.ours(network, previous, current, rows)
    return [(int(name), took) for name, took in in_turn(runs, seconds, clock).items()]


def main() -> int:
    """Print the tables; draw them where asked."""
    parser = argparse.ArgumentParser("python -m benchmarks.forward", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["256x448", "512x1024"], help="height x width, multiples of 16")
    parser.add_argument("--seconds", type=float, default=40.0, help="how long contenders take turns, for each size")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor seconds: for a machine that is not idle"
    )
    others = tuple(contenders.OTHERS)
    parser.add_argument("--against", nargs="*", default=others, choices=others, help="other runtimes, where installed")
    parser.add_argument("--plot", type=Path, help="draw the mixed-route curve here (needs matplotlib)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock: Clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.manual_seed(0)
    network = DMVFN().eval().requires_grad_(False).to(arguments.device)
    print(machine.describe())
    with torch.autocast(arguments.device, getattr(torch, arguments.dtype), enabled=arguments.dtype != "float32"):
        tables(network, arguments, clock)
    again = f"--device {arguments.device} --dtype {arguments.dtype} --threads {arguments.threads}"
    print(f"{machine.describe()}\nagain: python -m benchmarks.forward --sizes {' '.join(arguments.sizes)} {again}")
    return 0


def tables(network: DMVFN, arguments: argparse.Namespace, clock: Clock) -> None:
    """Print a table for each size, then the mixed routes."""
    kind, compiled = "processor" if arguments.cpu_time else "wall", contenders.ready(network)
    paths = "prepared for this device" if compiled else "plain torch (numba or triton missing?)"
    print(f"{arguments.device}, {arguments.dtype}, threads {arguments.threads}, {kind} time; ours is {paths}")
    contenders.ours(network, *frames(network, 64, 64), route(FULL))()
    # All others run float32 on the processor, and some bfloat16.
    known = {("cpu", "float32"): tuple(contenders.OTHERS), ("cpu", "bfloat16"): contenders.HALF}
    there = known.get((arguments.device, arguments.dtype), ())
    against = [word for word in arguments.against if word in there]
    for size in arguments.sizes:
        height, width = map(int, size.split("x"))
        started = time.perf_counter()
        timed(contenders.ours(network, *frames(network, height, width), route(FULL)), clock)
        print(f"{size}: first answer at a new size {(time.perf_counter() - started) * 1e3:.0f} ms")
        best = compare(network, height, width, arguments.seconds, clock, against)
        print(f"  | full route with routing, one pair | ms | published / this | this / ours |\n  |{'---|' * 4}")
        for name, took in best.items():
            print(
                f"  | {name} | {took * 1e3:.1f} | {best['published'] / took:.2f} | {took / best['ours']:.2f} |",
                flush=True,
            )
    height, width = map(int, arguments.sizes[0].split("x"))
    curve = mixed(network, height, width, arguments.seconds / 2, clock)
    print(f"mixed routes, four pairs of {arguments.sizes[0]}: blocks chosen in all, ms")
    for blocks, took in curve:
        print(f"  | {blocks} | {took * 1e3:.1f} |")
    if arguments.plot:
        draw(curve, arguments.sizes[0], arguments.plot)


def draw(curve: list[tuple[int, float]], size: str, path: Path) -> None:
    """The mixed-route curve as an image."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([blocks for blocks, _ in curve], [took * 1e3 for _, took in curve], "o-")
    axes.set(xlim=(0, 37), xlabel="blocks chosen in the whole batch (4 pairs)", ylabel="ms, routing included")
    axes.set_ylim(bottom=0)
    axes.set_title(f"Mixed routes in one batch\n{size}")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
