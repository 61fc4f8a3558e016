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
    """The arguments; shell completion reads them too."""
    found = argparse.ArgumentParser(
        prog="python -m service predict", description="Predict the frames that follow two image files."
    )
    found.add_argument("previous", type=Path, help="the older frame")
    found.add_argument("current", type=Path, help="the newer frame, of the same size")
    found.add_argument("-o", "--output", type=Path, required=True, help="PNG, JPEG, WebP or PPM, by its ending")
    found.add_argument("--steps", type=int, default=1, help="how many future frames; several get -1, -2, ... added")
    found.add_argument("--route", default="auto", help="auto, full, sample, budget, or nine digits 0 and 1")
    found.add_argument("--seed", type=int, help="of route sample")
    found.add_argument("--blocks", type=int, help="of route budget: 1 to 9")
    found.add_argument("--scale", type=float, default=1.0, help="1, 0.5 or 0.25: estimate motion on smaller frames")
    found.add_argument("--force", action="store_true", help="overwrite files that are there")
    return found


def main(arguments: Sequence[str], settings: Settings) -> int:
    """The exit status; what is wrong goes to standard error in one line."""
    try:
        return _run(parser().parse_args(arguments), settings)
    except (ServiceError, OSError, ValueError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 1


def _run(asked: argparse.Namespace, settings: Settings) -> int:
    form = FORMATS.get(asked.output.suffix.lower())
    if form is None:
        raise ValueError(f"{asked.output}: the ending must be one of {', '.join(FORMATS)}")
    targets = _targets(asked.output, asked.steps)
    present = [path for path in targets if path.exists()]
    if present and not asked.force:
        raise ValueError(f"{present[0]} exists already; --force overwrites it")
    limits = FrameLimits.of(settings)
    request = PredictRequest(
        id="predict",
        previous=decode(asked.previous.read_bytes(), limits, str(asked.previous)),
        current=decode(asked.current.read_bytes(), limits, str(asked.current)),
        options=Options(
            route=RouteChoice.parse(asked.route, seed=asked.seed, blocks=asked.blocks),
            steps=asked.steps,
            scale=asked.scale,
            quality=Quality.EXACT,
        ).check(settings.max_steps),
        deadline=float("inf"),
    )
    begun = time.perf_counter()
    result = asyncio.run(_predict(settings, request))
    for path, step in zip(targets, result.steps, strict=True):
        path.write_bytes(encode(step.frame, form))
        print(f"{path}  route {route_text(step.route)}  {step.flops / 1e9:.1f} GFLOP")
    print(f"{time.perf_counter() - begun:.2f} s, loading included", file=sys.stderr)
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
