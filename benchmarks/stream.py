"""A live stream at a camera's pace over gRPC: what becomes of every frame, and how long answers take.

    python -m benchmarks.stream                          against `python -m service serve` with the tiny network
    python -m benchmarks.stream --weights shipped        the same with the weights we ship
    python -m benchmarks.stream --without-network        pixel-wise extrapolation, in this process: a stream's own cost
    python -m benchmarks.stream --address HOST:PORT      against a running one

Latency is from handing a frame to the connection to having its answer, in this process's clock; `stages_ms` are the
medians of what the service says of itself. The clip is textured and moves; frames travel raw. Exits with 1 if a frame
is neither answered nor reported, or answers come out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np

from benchmarks.settled import until_settled
from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One run. Latencies are of predictions, in milliseconds."""

    frames: int
    fps: float
    outcomes: dict[str, int]
    in_order: bool
    first_ms: float  #: the very first prediction's
    p50_ms: float
    p99_ms: float
    worst_ms: float
    interval_ms: float
    stages_ms: dict[str, float]


def clip(count: int, height: int, width: int) -> list[bytes]:
    """A smooth random texture that drifts; RGB8."""
    random = np.random.default_rng(7)
    coarse = random.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.float32)
    rows = np.linspace(0, coarse.shape[0] - 1.001, height + 64)
    columns = np.linspace(0, coarse.shape[1] - 1.001, width + 64)
    y, x = rows.astype(int), columns.astype(int)
    fy, fx = (rows - y)[:, None, None], (columns - x)[None, :, None]
    top = coarse[y][:, x] * (1 - fx) + coarse[y][:, x + 1] * fx
    bottom = coarse[y + 1][:, x] * (1 - fx) + coarse[y + 1][:, x + 1] * fx
    texture = (top * (1 - fy) + bottom * fy).astype(np.uint8)
    path = [(32 + round(24 * np.sin(n / 23)), 32 + round(28 * np.sin(n / 31 + 1))) for n in range(count)]
    return [np.ascontiguousarray(texture[dy : dy + height, dx : dx + width]).tobytes() for dy, dx in path]


def start_message(
    *,
    policy: str,
    window: int,
    frame_deadline_ms: int | None = None,
    adaptive: bool = False,
    blocks: int | None = None,
    fast: bool = False,
    scale: float | None = None,
    method: str | None = None,
) -> pb.StreamStart:
    """What a stream's first message asks for."""
    if fast:
        options = pb.Options(quality=pb.QUALITY_FAST, scale=scale)
    else:
        quality = pb.QUALITY_ADAPTIVE if adaptive else pb.QUALITY_EXACT
        route = "" if blocks is None else "budget"
        named = method or (None if adaptive else "dmvfn")  # who names a method is promised it
        options = pb.Options(quality=quality, route=route, blocks=blocks, method=named, scale=scale)
    chosen = pb.POLICY_ALL if policy == "all" else pb.POLICY_LATEST
    return pb.StreamStart(policy=chosen, window=window, options=options, frame_deadline_ms=frame_deadline_ms)


async def stream(
    channel: Any, frames: list[bytes], height: int, width: int, *, fps: float, start: pb.StreamStart, keep: bool = False
) -> tuple[Outcome, dict[str, bytes]]:
    """Every frame once, on time (`fps` 0: as fast as they are taken); with `keep` each predicted frame's bytes by id.

    Without, a frame is read and let go of, as by whoever shows it: kept ones are new memory each.
    """
    stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
    sent: dict[str, float] = {}
    began = time.perf_counter()

    async def paced() -> AsyncIterator[pb.StreamPredictRequest]:
        yield pb.StreamPredictRequest(start=start)
        for n, data in enumerate(frames):
            if fps:
                # Against the clip's own clock, so that one late frame does not delay all after it.
                await asyncio.sleep(max(0.0, began + n / fps - time.perf_counter()))
            sent[str(n)] = time.perf_counter()
            message = pb.StreamPredictRequest()
            message.frame.frame_id = str(n)
            # In its place: a message built apart is copied into the one around it.
            raw = message.frame.raw
            raw.pixels, raw.height, raw.width = data, height, width
            yield message

    answered: list[str] = []
    outcomes: Counter[str] = Counter()
    latencies: list[float] = []
    predicted: dict[str, bytes] = {}
    stages: dict[str, list[float]] = {}
    async for answer in stub.StreamPredict(paced()):
        answered.append(answer.frame_id)
        outcome = answer.WhichOneof("outcome")
        outcomes[outcome] += 1
        if outcome == "prediction":
            latencies.append((time.perf_counter() - sent[answer.frame_id]) * 1000)
            pixels = answer.prediction.frames[0].raw.pixels
            if keep:
                predicted[answer.frame_id] = pixels
            for field, seconds in answer.prediction.timings.ListFields():
                stages.setdefault(field.name, []).append(seconds * 1000)
    p50, p99, worst = np.percentile(latencies, [50, 99, 100]) if latencies else (np.nan,) * 3
    in_order = answered == [str(n) for n in range(len(frames))]
    outcome = Outcome(
        frames=len(frames),
        fps=fps,
        outcomes=dict(outcomes),
        in_order=in_order,
        first_ms=round(latencies[0], 2) if latencies else np.nan,
        p50_ms=round(float(p50), 2),
        p99_ms=round(float(p99), 2),
        worst_ms=round(float(worst), 2),
        interval_ms=round(1000 / fps, 2) if fps else 0.0,
        stages_ms={name: round(float(np.median(values)), 2) for name, values in stages.items()},
    )
    return outcome, predicted


@contextlib.asynccontextmanager
async def _address(arguments: argparse.Namespace) -> AsyncIterator[str]:
    # Imported only here: against a running service this file needs nothing of it.
    if arguments.address is not None:
        yield arguments.address
    elif arguments.without_network:
        from tests.unit.rpc.serving import served
        from tests.unit.rpc.small import SmallEngine

        async with served(SmallEngine()) as small:
            yield small.address
    else:
        from tests.system.e2e.process import service

        settings = {"THREADS": str(arguments.threads), "WARMUP_SIZES": f"{arguments.height}x{arguments.width}"}
        if arguments.weights == "shipped":
            settings["WEIGHTS"] = ""  # the default: ours
        with service("serve", wait=True, forked=False, **settings) as started:
            await asyncio.to_thread(until_settled, started.process.pid)
            yield started.grpc


async def main(arguments: argparse.Namespace) -> int:
    """Runs and prints one JSON object."""
    height, width = arguments.height, arguments.width
    frames = clip(arguments.frames, height, width)
    async with (
        _address(arguments) as address,
        grpc.aio.insecure_channel(address, options=LARGE) as channel,
    ):
        outcome, _ = await stream(
            channel,
            frames,
            height,
            width,
            fps=arguments.fps,
            start=start_message(
                policy=arguments.policy,
                window=arguments.window,
                frame_deadline_ms=arguments.frame_deadline_ms,
                adaptive=arguments.adaptive,
                blocks=arguments.blocks,
                fast=arguments.fast,
                scale=arguments.scale,
                method=arguments.method,
            ),
        )
    print(json.dumps(dataclasses.asdict(outcome)))
    return 0 if outcome.in_order and sum(outcome.outcomes.values()) == outcome.frames else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--address", help="a running service's gRPC address")
    parser.add_argument("--without-network", action="store_true", help="what the stream itself costs")
    parser.add_argument("--weights", choices=["tiny", "shipped"], default="tiny")
    parser.add_argument("--threads", type=int, default=0, help="the network's; 0: one per core")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--policy", choices=["latest", "all"], default="latest")
    parser.add_argument("--window", type=int, default=2)
    parser.add_argument("--frame-deadline-ms", type=int, help="a later prediction is an error; none: the server's")
    parser.add_argument("--adaptive", action="store_true", help="fewer blocks rather than a missed deadline")
    parser.add_argument("--blocks", type=int, help="the most probable so many (route=budget); none: route=auto")
    parser.add_argument("--fast", action="store_true", help="the live head in place of the network (quality=fast)")
    parser.add_argument(
        "--scale", type=float, help="part of the size at which motion is found: 0.5 or 0.25 with --fast"
    )
    parser.add_argument("--method", help="what predicts, without --fast: dmvfn (the default), flow or mix")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(_arguments())))
