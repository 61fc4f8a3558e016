"""Where a request's time goes: decoding, motion, mixing, the network, encoding, side by side.

    python -m benchmarks.request_budget [--sizes 256x448 720x1280] [--turns 15] [--threads 1]

Processor time of this process, the fastest of so many turns of each part, so that other work on the machine counts
little; with more threads the parts that share cores cost the same or a little more. The transport and the queue are
not in it: `python -m benchmarks.overhead` measures those. Frames are those of `samples/`, resized.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch

from benchmarks import clips, machine
from model import checkpoint
from model.dmvfn import routing
from model.inference import pixels
from model.inference import predict as inference
from model.inference.cpu import compiler
from model.mixing import candidates, predictor, weights
from model.mixing.head import MixingHead
from model.mixing.weights import HeadMetadata
from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec import FrameLimits, ImageFormat

#: Bytes of a PNG of ours before its deflated rows.
PNG_HEAD = 41
FORMATS = (ImageFormat.PNG, ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.RAW)


def milliseconds(part: Callable[[], object], turns: int) -> float:
    """Measure the processor time of the fastest of `turns` runs of a part; the first run is not counted."""
    part()
    fastest = float("inf")
    for _ in range(turns):
        start = time.process_time()
        part()
        fastest = min(fastest, time.process_time() - start)
    return 1000 * fastest


def codecs(frames: Sequence[Frame], turns: int) -> dict[str, tuple[float, float, int]]:
    """Measure per format: decoding both frames, encoding one, and the bytes of one file."""
    limits, rows = FrameLimits(), {}
    for kind in FORMATS:
        files = [codec.encode(frame, kind) for frame in frames]

        def decode(kind: ImageFormat = kind, files: Sequence[bytes] = files) -> None:
            for file, frame in zip(files, frames, strict=True):
                if kind is ImageFormat.RAW:
                    codec.from_raw(file, frame.height, frame.width, limits, "frame")
                else:
                    codec.decode(file, limits, "frame")

        def encode(kind: ImageFormat = kind) -> bytes:
            return codec.encode(frames[1], kind)

        rows[str(kind)] = milliseconds(decode, turns), milliseconds(encode, turns), len(files[1])
    return rows


def by_zlib(frame: Frame, turns: int) -> tuple[float, int]:
    """Measure zlib, level 1, on the rows that our PNG of a frame has: what ISA-L is measured against."""
    rows = zlib.decompress(codec.encode(frame, ImageFormat.PNG)[PNG_HEAD:])
    return milliseconds(lambda: zlib.compress(rows, 1), turns), len(zlib.compress(rows, 1))


def mixtures(pair: np.ndarray, turns: int) -> dict[str, dict[str, float]]:
    """Measure the parts of both heads: finding motion, warping the candidates, weighing them."""
    heads = {"flow": weights.load(weights.DEFAULT), "live head": weights.load(weights.LIVE)}
    return {
        name: {part: milliseconds(run, turns) for part, run in _mixture_parts(pair, head, about).items()}
        for name, (head, about) in heads.items()
    }


def _mixture_parts(pair: np.ndarray, head: MixingHead, about: HeadMetadata) -> dict[str, Callable[[], object]]:
    """Return what `predictor.mix` does, part by part, with the arguments that it gives."""
    names = tuple(each for each in head.config.candidates if each != "network")
    needed = (*names, "crisp") if about.crispness > 0 else names
    find = partial(candidates.find, pair[0], pair[1], needed, about.preset, about.sharpening > 0)
    motions = find()
    build = partial(candidates.build, pair[0], pair[1], needed, None, about.preset, 1, motions)
    stack = build()
    mix = partial(
        predictor.weigh,
        head,
        names,
        stack.frames,
        stack.flow,
        crispness=about.crispness,
        sharpening=about.sharpening * motions.detail,
    )
    return {"motion": find, "warp": build, "mix": mix}


def network(pair: np.ndarray, turns: int) -> dict[str, float]:
    """Measure the network by the route it chooses and by all of its blocks."""
    loaded = checkpoint.load(checkpoint.DEFAULT).eval()
    first, second = (pixels.to_frames([frame], torch.device("cpu")) for frame in pair)
    chosen = routing.auto(inference.probabilities(loaded, first, second))
    return {
        name: milliseconds(partial(inference.predict, loaded, first, second, route), turns)
        for name, route in (("auto", chosen), ("full", torch.ones_like(chosen)))
    }


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x448", "720x1280"])
    parser.add_argument("--turns", type=int, default=15, help="of each part")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    compiler.use_threads(options.threads)
    print(f"{machine.describe()}; {options.threads} thread(s), milliseconds of processor time")
    for text in options.sizes:
        pair = clips.pair(*clips.size(text))
        frames = [Frame(picture) for picture in pair]
        print(f"\n{text}\n{'format':<10} {'decode two':>10} {'encode one':>10} {'bytes':>9}")
        for name, (decode, encode, size) in codecs(frames, options.turns).items():
            print(f"{name:<10} {decode:10.1f} {encode:10.1f} {size:9}")
        by_zlib_ms, size = by_zlib(frames[1], options.turns)
        print(f"{'png by zlib':<21} {by_zlib_ms:10.1f} {size:9}")
        print(f"\n{'method':<10} {'motion':>8} {'warp':>8} {'mix':>8} {'sum':>8}")
        for name, parts in mixtures(pair, options.turns).items():
            print(f"{name:<10} " + " ".join(f"{value:8.1f}" for value in (*parts.values(), sum(parts.values()))))
        for name, value in network(pair, max(3, options.turns // 3)).items():
            print(f"dmvfn {name:<4} {'':>26} {value:8.1f}")


if __name__ == "__main__":
    main()
