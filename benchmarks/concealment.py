"""A stream that loses frames in bursts, concealed and not: seconds frozen, dB on the frames that were lost.

    python -m benchmarks.concealment CLIP ...        films, or folders of numbered pictures
    python -m benchmarks.concealment                 the sample clip

The stream's own decisions (`service.serving.streaming.concealment`) on a clock that is stepped, with the default
predictor in this process; every frame comes on time or never. Bursts of 1 to 5 frames, together a tenth of all, drawn
with a seed for each clip. Repeating shows the frame before until the next one comes. Frozen: seconds in which nothing
new was shown for longer than one interval; freezes are WebRTC's. Means over clips of each clip's mean.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.clips import SAMPLES
from service.core.interfaces import Engine
from service.core.types import Frame, Method, Options, PredictRequest
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.imaging.codec import FrameLimits
from service.serving.streaming.concealment import Concealer, Concealment, NumberedFrame, TickSource
from service.serving.streaming.freezes import FreezeCounter
from service.serving.video.clip import Timed
from service.serving.video.files import open_source
from service.settings import Settings
from service.telemetry.metrics import Metrics

FPS, LOSS, MOST_BURST = 30.0, 0.1, 5
#: Of equal pictures, dB.
MOST_DB = 60.0
#: Frames of a stream: a short clip is played to and fro.
LENGTH = 300


@dataclasses.dataclass(slots=True)
class LossResult:
    """One clip. dB are of the mean squared error over lost frames; by place in the burst in `gains_db`."""

    name: str
    lost: int = 0
    concealed_db: float = 0.0
    repeated_db: float = 0.0
    gains_db: dict[int, float] = dataclasses.field(default_factory=dict)
    frozen_s: float = 0.0
    frozen_repeating_s: float = 0.0
    freezes: int = 0
    freezes_repeating: int = 0
    freezes_s: float = 0.0
    freezes_repeating_s: float = 0.0
    blended_db: float = 0.0  #: of frames that came and were faded in, against themselves


def losses(count: int, seed: int) -> set[int]:
    """Return the numbers of lost frames: bursts of 1 to 5, a tenth of `count` together, none among the first five."""
    random, lost = np.random.default_rng(seed), set[int]()
    while len(lost) < LOSS * count:
        start, length = int(random.integers(5, count - MOST_BURST - 1)), int(random.integers(1, MOST_BURST + 1))
        burst = set(range(start, start + length))
        if not lost & set(range(start - 2, start + length + 2)):
            lost |= burst
    return lost


def played(clip: Path, count: int = LENGTH) -> list[Frame]:
    """Read a clip, its pictures 256x448 at most in area and even; to and fro until there are `count`."""
    frames = [_reduced(picture) for picture in itertools.islice(_pictures(clip), count)]
    way = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    return [frames[way[number % len(way)]] for number in range(count)]


def _pictures(clip: Path) -> Iterator[Image.Image]:
    if clip.is_dir():
        for path in sorted(path for path in clip.iterdir() if path.suffix in (".png", ".jpg", ".webp")):
            yield Image.open(path).convert("RGB")
        return
    with closing(open_source(str(clip), limits=FrameLimits.of(Settings()), sound=False)) as source:
        for item in source:
            if isinstance(item, Timed):
                yield Image.fromarray(item.frame.pixels)


def _reduced(picture: Image.Image) -> Frame:
    scale = min(1.0, (256 * 448 / (picture.width * picture.height)) ** 0.5)
    size = round(picture.width * scale) // 2 * 2, round(picture.height * scale) // 2 * 2
    return Frame(np.array(picture.resize(size, Image.Resampling.LANCZOS)))


async def conceal(engine: Engine, frames: Sequence[Frame], lost: set[int], name: str, options: Options) -> LossResult:
    """Run one stream, tick by tick."""
    result, interval = LossResult(name), 1 / FPS
    concealer, shown, repeating = Concealer(Concealment(FPS)), FreezeCounter(), FreezeCounter()
    by_place: dict[int, list[tuple[float, float]]] = {}
    errors: dict[str, list[float]] = {"concealed": [], "repeated": [], "blended": []}
    last_real, last_new = frames[0], 0
    for number, frame in enumerate(frames):
        if number not in lost:
            await _arrive(engine, concealer, NumberedFrame(number, frame), number * interval, options)
        tick = concealer.tick()
        picture, now = tick.picture(), number * interval
        if picture is None:
            result.frozen_s += interval
        else:
            result.freezes_s += shown.shown(now)
        if number in lost:
            place = number - max(other for other in range(number) if other not in lost)
            errors["repeated"].append(_squared_error(frame, last_real))
            errors["concealed"].append(_squared_error(frame, last_real if picture is None else picture))
            by_place.setdefault(place, []).append((errors["repeated"][-1], errors["concealed"][-1]))
            continue
        last_real = frame
        result.freezes_repeating_s += repeating.shown(now)
        result.frozen_repeating_s += (number - last_new - 1) * interval if number else 0.0
        last_new = number
        if tick.source is TickSource.BLENDED and picture is not None:
            errors["blended"].append(_squared_error(frame, picture))
    result.lost, result.freezes, result.freezes_repeating = len(lost), shown.report().count, repeating.report().count
    for kind in ("concealed", "repeated", "blended"):
        setattr(result, f"{kind}_db", _db(errors[kind]))
    for place, pairs in sorted(by_place.items()):
        repeated, concealed = zip(*pairs, strict=True)
        result.gains_db[place] = round(_db(concealed) - _db(repeated), 2)
    return result


def _squared_error(truth: Frame, picture: Frame) -> float:
    return float(np.mean(np.square(truth.pixels.astype(np.int16) - picture.pixels, dtype=np.int32)))


def _db(errors: Sequence[float]) -> float:
    """Return the PSNR of a mean squared error: clips repeat frames, whose own would be infinite."""
    mean = float(np.mean(errors)) if errors else 0.0
    return MOST_DB if mean <= 0 else min(MOST_DB, 10 * math.log10(255**2 / mean))


async def _arrive(engine: Engine, concealer: Concealer, frame: NumberedFrame, now: float, options: Options) -> None:
    pair = concealer.arrived(frame, now)
    if pair is None:
        return
    wanted = dataclasses.replace(options, times=pair.times)
    result = await engine.predict(PredictRequest(str(frame.number), pair.previous.frame, pair.current.frame, wanted))
    concealer.predicted(pair, () if result.is_cut else [step.frame for step in result.steps])


def text(results: Sequence[LossResult]) -> Iterator[str]:
    """Yield the report's lines."""
    for result in results:
        yield json.dumps(dataclasses.asdict(result), default=float)
    gain = np.array([result.concealed_db - result.repeated_db for result in results])
    frozen = sum(result.frozen_s for result in results), sum(result.frozen_repeating_s for result in results)
    yield (
        f"{len(results)} clips, {sum(result.lost for result in results)} frames lost: "
        f"{np.mean([result.concealed_db for result in results]):.2f} dB concealed, "
        f"{np.mean([result.repeated_db for result in results]):.2f} repeated: +{gain.mean():.2f} dB "
        f"(± {gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else 0:.2f} over clips); "
        f"frozen {frozen[0]:.2f} s against {frozen[1]:.2f} s by repeating "
        f"(-{100 * (1 - frozen[0] / frozen[1]):.0f} %); "
        f"freezes {sum(result.freezes for result in results)} against "
        f"{sum(result.freezes_repeating for result in results)}"
    )


async def run(clips: Sequence[Path], settings: Settings, options: Options, count: int = LENGTH) -> list[LossResult]:
    """Run every clip's stream on one engine."""
    engine = Batcher(lambda: Predictor.of(settings), settings, Metrics.unseen())
    await engine.start()
    try:
        return [
            await conceal(engine, played(clip, count), losses(count, seed), clip.stem, options)
            for seed, clip in enumerate(clips)
        ]
    finally:
        await engine.close()


def main() -> None:
    """Print a line for each clip, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, default=[SAMPLES], help="films, or folders of pictures")
    parser.add_argument("--method", choices=[*Method], help="what predicts (default: as the weights say)")
    parser.add_argument("--frames", type=int, default=LENGTH, help="of each stream")
    params = parser.parse_args()
    settings = dataclasses.replace(Settings(), warmup_sizes=())
    options = Options(method=Method(params.method) if params.method else None)
    for line in text(asyncio.run(run(params.clips, settings, options, params.frames))):
        print(line)


if __name__ == "__main__":
    main()
