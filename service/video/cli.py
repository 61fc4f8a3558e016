"""`python -m service video`: arguments to a clip in, a plan, and a clip out; the network runs in this process."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from service.core.errors import InvalidRequest, ServiceError
from service.core.types import SCALES, Frame, Options, RouteChoice
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.metrics import Metrics
from service.settings import Settings
from service.video import compare
from service.video.ask import Predict, predictor
from service.video.clip import Passed, Source, Timed, VideoError
from service.video.compare import Score
from service.video.files import CONTAINERS, OutFile, OutPipe, open_sink, open_source
from service.video.plan import Ahead, Every, FillLost, Plan, lost_frames
from service.video.progress import Progress
from service.video.render import Shown, render

EPILOG = f"""\
input and output: a file ({", ".join(CONTAINERS)} or .y4m), or - for y4m through a pipe.
Timestamps are kept, sound is copied, and nothing is predicted across a scene cut.

examples:
  # each frame as foreseen three frames earlier
  python -m service video in.mp4 -o out.mp4 --ahead 3
  # every second frame predicted, true and error beside it, PSNR at the end
  python -m service video in.mp4 -o seen.mp4 --every 2 --compare
  # repair frames that were lost: their numbers, counted from 0, one a line or in ranges like 20-24
  python -m service video in.mp4 -o whole.mp4 --fill-lost frames.txt
  # anything that ffmpeg reads and writes
  ffmpeg -v error -i in.ts -f yuv4mpegpipe -pix_fmt yuv420p - | python -m service video - -o - --ahead 1 |
    ffmpeg -v error -i - out.webm
"""


def parser() -> argparse.ArgumentParser:
    """The arguments; shell completion reads them too."""
    found = argparse.ArgumentParser(
        prog="python -m service video",
        description="Predicts frames of a video: ahead of time, in place of lost ones, or to see how good it is.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("input", help="the clip, or - for y4m on standard input")
    found.add_argument("-o", "--output", required=True, help="where to write, or - for y4m on standard output")
    what = found.add_mutually_exclusive_group(required=True)
    what.add_argument("--ahead", type=int, metavar="K", help="show each frame as predicted K frames earlier")
    what.add_argument("--fill-lost", metavar="FILE", help="predict the frames listed in FILE (- for standard input)")
    what.add_argument("--every", type=int, metavar="N", help="predict every N-th frame from the two before it")
    found.add_argument("--compare", action="store_true", help="true, predicted and error side by side; PSNR at the end")
    found.add_argument("--route", default="auto", help="auto, full, or nine digits 0 and 1 (default: auto)")
    found.add_argument("--blocks", type=int, metavar="1..9", help="run this many blocks, the most probable ones")
    found.add_argument("--scale", type=float, default=1.0, choices=SCALES, help="size at which motion is estimated")
    found.add_argument("--across-cuts", action="store_true", help="predict across scene cuts too")
    found.add_argument("--no-audio", action="store_true", help="leave the sound out")
    found.add_argument("-q", "--quiet", action="store_true", help="no progress")
    return found


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run it; 0, or 1 with a message on standard error (130 when interrupted)."""
    arguments = parser().parse_args(argv)
    try:
        return asyncio.run(_run(arguments, settings))
    except (VideoError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        print("error: the program that reads the output went away", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    plan, options = _plan(arguments), _options(arguments, settings)
    with closing(open_source(arguments.input, max_pixels=settings.max_pixels, sound=not arguments.no_audio)) as source:
        info = source.info
        width, height = info.width, info.height
        if min(width, height) < settings.min_side:
            raise VideoError(
                f"frames of {width}x{height} are too small; a side has {settings.min_side} pixels at least"
            )
        if arguments.compare:
            width, height = compare.size(width, height)
        # Nothing to warm up: the first frames of the clip do it.
        quick = dataclasses.replace(settings, warmup_sizes=())
        engine = Batcher(lambda: Predictor.of(quick), quick, Metrics.unseen())
        await engine.start()
        try:
            sink = open_sink(arguments.output, source, width, height)
            try:
                score = await _convert(arguments, source, plan, predictor(engine, options, settings), sink)
                await asyncio.to_thread(sink.close)
            except BaseException:
                sink.give_up()
                raise
        finally:
            await engine.close()
    if arguments.compare:
        print(score.text(), file=sys.stderr)
    return 0


async def _convert(
    arguments: argparse.Namespace,
    source: Source,
    plan: Plan,
    predict: Predict,
    sink: OutFile | OutPipe,
) -> Score:
    score = Score()
    progress = None if arguments.quiet else Progress(source.info.frames, sys.stderr, time.monotonic)
    async for item in render(source, plan, predict, scene_cuts=not arguments.across_cuts):
        if isinstance(item, Passed):
            await asyncio.to_thread(sink.write, item)
            continue
        frame = _compared(item, score) if arguments.compare else item.frame
        await asyncio.to_thread(sink.write, Timed(frame, item.came.pts))
        if progress:
            progress.done(item.result is not None)
    if progress:
        progress.end()
    return score


def _compared(item: Shown, score: Score) -> Frame:
    truth = item.came.frame
    if item.result is None or item.last is None:
        return compare.side_by_side(truth, item.frame, None, None)
    numbers = (compare.psnr(truth, item.frame), compare.psnr(truth, item.last))
    score.add(*numbers)
    return compare.side_by_side(truth, item.frame, item.result.steps[-1].route, numbers)


def _plan(arguments: argparse.Namespace) -> Plan:
    if arguments.ahead is not None:
        return Ahead(arguments.ahead)
    if arguments.every is not None:
        return Every(arguments.every)
    name = arguments.fill_lost
    try:
        return FillLost(lost_frames(sys.stdin.read() if name == "-" else Path(name).read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise VideoError(f"cannot read the list of lost frames {name}: {error}") from error


def _options(arguments: argparse.Namespace, settings: Settings) -> Options:
    route = RouteChoice.parse(arguments.route, blocks=arguments.blocks)
    if route.policy == "sample":
        raise InvalidRequest("--route sample draws another route for each frame; choose auto, full or nine digits")
    options = Options(route=route, steps=arguments.ahead or 1, scale=arguments.scale)
    try:
        return options.check(settings.max_steps)
    except InvalidRequest as error:
        raise VideoError(f"--ahead: {error}") from error
