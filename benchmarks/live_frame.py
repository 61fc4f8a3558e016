"""What a frame of a live stream takes, from raw bytes to the predicted frame, where all moves and where little does.

    python -m benchmarks.live_frame [--sizes 720x1280 256x448] [--turns 20] [--threads 2] [--moving 0.1]

One pair after the other through the predictor, without queue or transport: the older frame is there, the newer one is
decoded from raw. Wall and processor time, the fastest of so many turns, all ways in turn. A still camera's pair is
equal but for one block that makes up `--moving` of its pixels; the network predicts that one whole, too. `first`: the
very first pair of a size that this process has not seen, as a multiple of the fastest.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import cv2
import numpy as np
from numpy.typing import NDArray

import model  # noqa: F401  # before torch: it says how long OpenMP's threads wait for one another
from benchmarks import clips, machine
from model import checkpoint
from service.core.types import Frame, Method, Options, PredictRequest, Quality
from service.engine.device import DeviceWork
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor, cores
from service.imaging import codec
from service.imaging.codec import FrameLimits

WAYS = {
    "flow": Options(method=Method.FLOW),
    "fast": Options.parse(quality=Quality.FAST),
    "fast, scale 0.5": Options.parse(quality=Quality.FAST, scale=0.5),
    "fast, scale 0.25": Options.parse(quality=Quality.FAST, scale=0.25),
    "dmvfn, auto": Options(method=Method.DMVFN),
}


@dataclasses.dataclass(slots=True)
class Measured:
    """Milliseconds of one way on one pair."""

    wall: float = float("inf")
    processor: float = float("inf")
    first: float = 0.0  #: wall

    def add(self, wall: float, processor: float) -> None:
        """Take another turn's milliseconds."""
        self.first = self.first or wall
        self.wall, self.processor = min(self.wall, wall), min(self.processor, processor)


def still(pair: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The older frame twice, but for a block in the middle, `share` of its pixels, which the newer one has."""
    height, width = pair.shape[1:3]
    part = share**0.5
    top, left = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    newer = pair[0].copy()
    middle = np.s_[top : height - top, left : width - left]
    newer[middle] = pair[1][middle]
    return np.stack((pair[0], newer))


def turn(predictor: Predictor, previous: Frame, raw: bytes, options: Options) -> tuple[float, float]:
    """Predict once: wall and processor milliseconds from the newer frame's bytes on."""
    wall, processor = time.perf_counter(), time.process_time()
    current = codec.from_raw(raw, previous.height, previous.width, FrameLimits(), "frame")
    work = DeviceWork(PredictRequest("", previous, current, options), live=options.quality is Quality.FAST)
    (outcome,) = predictor.run([work], lambda work: True).outcomes
    assert isinstance(outcome, tuple), outcome
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor)


def measure(predictor: Predictor, size: tuple[int, int], turns: int, share: float) -> dict[str, dict[str, Measured]]:
    """Measure every way on a pair in which all moves and on a still camera's, in turns."""
    whole = clips.pair(*size)
    pairs = {"all moves": whole, "still camera": still(whole, share)}
    table = {kind: {name: Measured() for name in WAYS} for kind in pairs}
    for _ in range(turns):
        for kind, pair in pairs.items():
            previous, raw = Frame(np.ascontiguousarray(pair[0])), pair[1].tobytes()
            for name, options in WAYS.items():
                table[kind][name].add(*turn(predictor, previous, raw, options))
    return table


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["720x1280", "256x448"])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--moving", type=float, default=0.1, help="part of a still camera's frame")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    network = checkpoint.load(checkpoint.DEFAULT)
    predictor = Predictor(network, device="cpu", threads=options.threads, mixtures=Mixtures.load(network))
    print(f"{machine.describe()}; {options.threads} thread(s), milliseconds")
    list(predictor.warm_up([(64, 64)]))
    for text in options.sizes:
        table = measure(predictor, clips.size(text), options.turns, options.moving)
        print(
            f"\n{text:<17} {'all moves':>10} {'processor':>10} {'first':>6} {'still':>8} {'processor':>10} {'times':>6}"
        )
        for name in WAYS:
            whole, part = table["all moves"][name], table["still camera"][name]
            print(
                f"{name:<17} {whole.wall:10.1f} {whole.processor:10.1f} {whole.first / whole.wall:6.1f} "
                f"{part.wall:8.1f} {part.processor:10.1f} {whole.wall / part.wall:6.1f}"
            )


if __name__ == "__main__":
    main()
