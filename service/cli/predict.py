"""`python -m service predict`: two image files in, the next frames as image files, without a server.

Uses the service's own door, queue and device, so that its answers are the service's answers.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from service.core.errors import ServiceError
from service.core.types import Options, PredictRequest, PredictResult, Quality, RouteChoice, route_text
from service.imaging.codec import FrameLimits, ImageFormat, decode, encode
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
    arguments.add_argument("previous", type=Path, help="the older frame")
    arguments.add_argument("current", type=Path, help="the newer frame, of the same size")
    arguments.add_argument("-o", "--output", type=Path, required=True, help="PNG, JPEG, WebP or PPM, by its ending")
    arguments.add_argument("--steps", type=int, default=1, help="how many future frames; several get -1, -2, ... added")
    arguments.add_argument("--route", default="auto", help="auto, full, sample, budget, or nine digits 0 and 1")
    arguments.add_argument("--seed", type=int, help="of route sample")
    arguments.add_argument("--blocks", type=int, help="of route budget: 1 to 9")
    arguments.add_argument("--scale", type=float, default=1.0, help="1, 0.5 or 0.25: estimate motion on smaller frames")
    arguments.add_argument("--force", action="store_true", help="overwrite files that are there")
    return arguments


def main(arguments: Sequence[str], settings: Settings) -> int:
    """Run the verb and return the exit status; an error goes to standard error in one line."""
    try:
        return _run(parser().parse_args(arguments), settings)
    except (ServiceError, OSError, ValueError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 1


def _run(params: argparse.Namespace, settings: Settings) -> int:
    image_format = FORMATS.get(params.output.suffix.lower())
    if image_format is None:
        raise ValueError(f"{params.output}: the ending must be one of {', '.join(FORMATS)}")
    targets = _targets(params.output, params.steps)
    present = [path for path in targets if path.exists()]
    if present and not params.force:
        raise ValueError(f"{present[0]} exists already; --force overwrites it")
    limits = FrameLimits.of(settings)
    request = PredictRequest(
        id="predict",
        previous=decode(params.previous.read_bytes(), limits, str(params.previous)),
        current=decode(params.current.read_bytes(), limits, str(params.current)),
        options=Options(
            route=RouteChoice.parse(params.route, seed=params.seed, blocks=params.blocks),
            steps=params.steps,
            scale=params.scale,
            quality=Quality.EXACT,
        ).check(settings.max_steps),
        deadline=float("inf"),
    )
    started_at = time.perf_counter()
    result = asyncio.run(_predict(settings, request))
    for path, step in zip(targets, result.steps, strict=True):
        path.write_bytes(encode(step.frame, image_format))
        print(f"{path}  route {route_text(step.route)}  {step.flops / 1e9:.1f} GFLOP")
    print(f"{time.perf_counter() - started_at:.2f} s, loading included", file=sys.stderr)
    return 0


async def _predict(settings: Settings, request: PredictRequest) -> PredictResult:
    from service.engine.batcher import Batcher
    from service.engine.predictor import Predictor

    quick = settings.replace(warmup_sizes=())
    engine = Batcher(lambda: Predictor.of(quick), quick, Metrics.unseen())
    try:
        await engine.start()
        return await engine.predict(request)
    finally:
        await engine.close()


def _targets(output: Path, steps: int) -> list[Path]:
    if steps == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{k}{output.suffix}") for k in range(1, steps + 1)]
