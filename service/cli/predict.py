"""`python -m service predict`: two image files in, the next frames as image files, without a server.

Uses the service's own decoder, queue and device, so that its answers are the service's answers.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from service.app_state import AppState
from service.core import moments
from service.core.errors import ServiceError
from service.core.types import Method, Options, Quality, route_text
from service.imaging.codec import FrameLimits, ImageFormat
from service.imaging.codec_pool import Codecs
from service.serving import prediction
from service.serving.prediction import Caller, EncodedPrediction, Picture, PicturePair
from service.settings import Settings
from service.telemetry.metrics import Metrics

#: File endings that can be written.
FORMATS = {
    ".png": ImageFormat.PNG,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
    ".webp": ImageFormat.WEBP,
    ".ppm": ImageFormat.PPM,
}


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments; shell completion reads them too."""
    arguments = argparse.ArgumentParser(
        prog="python -m service predict", description="Predict the frames that follow two image files."
    )
    arguments.add_argument("previous", type=Path, help="the frame shown first")
    arguments.add_argument("current", type=Path, help="the frame shown after it, of the same size")
    arguments.add_argument("-o", "--output", type=Path, required=True, help="PNG, JPEG, WebP or PPM, by its ending")
    arguments.add_argument(
        "--steps", type=int, help="how many future frames (default: 1); several get -1, -2, ... added"
    )
    arguments.add_argument("--t", help="in place of steps: when frames are shown, e.g. 0.5,1,2.7 intervals from now")
    arguments.add_argument("--method", choices=[*Method], help="what predicts (default: as the weights say)")
    arguments.add_argument(
        "--quality",
        choices=[Quality.EXACT, Quality.FAST],
        default=Quality.EXACT,
        help="fast: flow by its quickest head",
    )
    arguments.add_argument("--route", help="of the network: auto, full, sample, budget, or nine digits 0 and 1")
    arguments.add_argument("--seed", type=int, help="of route sample")
    arguments.add_argument("--blocks", type=int, help="of route budget: 1 to 9")
    arguments.add_argument("--scale", type=float, help="1, 0.5 or 0.25: estimate motion on smaller frames")
    arguments.add_argument("--force", action="store_true", help="overwrite files that are there")
    return arguments


def main(arguments: Sequence[str], settings: Settings) -> int:
    """Run the verb and return the exit status; an error goes to standard error in one line."""
    try:
        return _run(parser().parse_args(arguments), settings)
    except OSError as error:
        why = f"cannot use {error.filename}: {error.strerror}" if error.filename else error
        print(f"predict: {why}", file=sys.stderr)
        return 1
    except (ServiceError, ValueError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 1


def _run(params: argparse.Namespace, settings: Settings) -> int:
    image_format = FORMATS.get(params.output.suffix.lower())
    if image_format is None:
        raise ValueError(f"{params.output}: the ending must be one of {', '.join(FORMATS)}")
    options = Options.parse(
        method=params.method,
        route=params.route,
        seed=params.seed,
        blocks=params.blocks,
        scale=params.scale,
        steps=params.steps,
        quality=Quality(params.quality),
        times=() if params.t is None else moments.read(params.t),
    ).check(settings.max_steps)
    targets = _targets(params.output, options.frames)
    present = [path for path in targets if path.exists()]
    if present and not params.force:
        raise ValueError(f"{present[0]} exists already; --force overwrites it")
    pair = PicturePair(
        Picture(params.previous.read_bytes()),
        Picture(params.current.read_bytes()),
        (str(params.previous), str(params.current)),
    )
    started_at = time.perf_counter()
    value = asyncio.run(_predict(settings, pair, options, image_format))
    for path, step, file in zip(targets, value.result.steps, value.pictures, strict=True):
        path.write_bytes(file)
        ran = f"route {route_text(step.route)}" if step.method is Method.DMVFN else f"method {step.method}"
        moment = "" if step.t is None else f"  t {moments.text(step.t)}"
        print(f"{path}  {ran}  {step.flops / 1e9:.1f} GFLOP{moment}")
    if value.result.is_cut:
        print("the two frames show different scenes: the current one is repeated", file=sys.stderr)
    if value.result.shares:
        print(f"shares {prediction.shares_text(value.result)}")
    if value.result.seed is not None:
        print(f"seed {value.result.seed}")
    print(f"{time.perf_counter() - started_at:.2f} s, loading included", file=sys.stderr)
    return 0


async def _predict(
    settings: Settings, pair: PicturePair, options: Options, image_format: ImageFormat
) -> EncodedPrediction:
    from service.engine.batcher import Batcher
    from service.engine.predictor import Predictor

    quick, metrics = settings.replace(warmup_sizes=()), Metrics.unseen()
    engine = Batcher(lambda: Predictor.of(quick), quick, metrics)
    codecs = Codecs(FrameLimits.of(quick), quick.codec_threads, metrics)
    state = AppState(quick, engine, codecs, metrics)
    try:
        # Before the weights are loaded: a damaged file is told at once.
        frames = await prediction.decode_pair(state, pair)
        request = prediction.build_request(Caller("predict", deadline=math.inf), *frames, options)
        await engine.start()
        return await prediction.encode(state, await engine.predict(request), image_format, None)
    finally:
        await engine.close()
        codecs.close()


def _targets(output: Path, steps: int) -> list[Path]:
    if steps == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{k}{output.suffix}") for k in range(1, steps + 1)]
