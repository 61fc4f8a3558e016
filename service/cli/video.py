"""`python -m service video`: predicts frames of a video file, in this process or by a service (`--server`)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path

from service.cli import remote_video
from service.cli.video_progress import Progress
from service.core.errors import InvalidRequest, ServiceError
from service.core.types import SCALES, Method, Options
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.imaging.codec import FrameLimits
from service.serving.video.clip import SoundMode, Timed, VideoError
from service.serving.video.clip_frames import clip_frames
from service.serving.video.compare import FrameScore
from service.serving.video.files import CONTAINERS, PIPE, OutFile, OutPipe, open_sink, open_source
from service.serving.video.frame_prediction import ClipPredictors
from service.serving.video.output_frames import VideoParams
from service.serving.video.plan import MAX_LIST, Ahead, Every, FillLost, FramePlan, FrameRanges, lost_frames
from service.serving.video.retimed_frames import Outputs, RetimingParams
from service.serving.video.retiming import rate
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.thread_work import run_to_end

EPILOG = f"""\
input and output: a file ({", ".join(CONTAINERS)} or .y4m), or - for y4m through a pipe.
Times and shape are kept, sound is copied (--sound), and nothing is predicted across a scene cut.

examples:
  # each frame as foreseen three frames earlier
  python -m service video in.mp4 -o out.mp4 --ahead 3
  # every second frame predicted, true and error beside it, PSNR at the end
  python -m service video in.mp4 -o seen.mp4 --every 2 --compare
  # repair frames that were lost: their numbers, counted from 0, one a line or in ranges like 20-24
  python -m service video in.mp4 -o whole.mp4 --fill-lost frames.txt
  # film at 24 frames a second to 60, predicted between; a stream with gaps made whole
  python -m service video film.mp4 -o smooth.mp4 --fps 60
  python -m service video broken.mp4 -o whole.mp4 --conceal --fps 30000/1001
  # anything that ffmpeg reads and writes
  ffmpeg -v error -i in.ts -f yuv4mpegpipe -pix_fmt yuv420p - | python -m service video - -o - --ahead 1 |
    ffmpeg -v error -i - out.webm
  # a folder of clips, by the workers of a service; run again, it goes on where it was stopped
  python -m service video films -o ahead --ahead 2 --server http://HOST:8000
  # the same with the clips below an address of an S3-compatible service (DMVFN_OBJECT_STORE_ENDPOINT, _KEY_ID, ...)
  python -m service video s3://BUCKET/films -o ahead --ahead 2 --server http://HOST:8000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments and description to `parser`."""
    parser.description = "Predict frames of a video: ahead of time, in place of lost ones, or to see how good it is."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", help="the clip, or - for y4m on standard input")
    parser.add_argument("-o", "--output", required=True, help="where to write, or - for y4m on standard output")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--ahead", type=int, metavar="K", help="show each frame as predicted K frames earlier")
    mode.add_argument("--fill-lost", metavar="FILE", help="predict the frames listed in FILE (- for standard input)")
    mode.add_argument("--every", type=int, metavar="N", help="predict every N-th frame from the two before it")
    parser.add_argument("--fps", metavar="RATE", help="another, constant rate: 60, 59.94 or 60000/1001")
    parser.add_argument("--conceal", action="store_true", help="find dropped and repeated frames and predict them")
    parser.add_argument("--compare", action="store_true", help="true, predicted, error side by side; PSNR at the end")
    parser.add_argument("--method", choices=[*Method], help="what predicts (default: as the weights say)")
    parser.add_argument("--route", help="of the network: auto, full, or nine digits 0 and 1 (default: auto)")
    parser.add_argument("--blocks", type=int, metavar="1..9", help="run this many blocks, the most probable ones")
    parser.add_argument("--scale", type=float, choices=SCALES, help="size at which motion is estimated")
    parser.add_argument("--across-cuts", action="store_true", help="predict across scene cuts too")
    parser.add_argument(
        "--sound",
        type=SoundMode,
        choices=[*SoundMode],
        default=SoundMode.COPY,
        help="copy what the output can hold, transcode the rest too, or none (default: copy)",
    )
    parser.add_argument("--no-audio", action="store_true", help="leave the sound out, as --sound none")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="let this service's workers predict; input may be a folder or s3://BUCKET/PREFIX",
    )
    parser.add_argument("--key-file", metavar="FILE", help="of --server: a file with the API key")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="of --server: clips under way (default: 4)")
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run the verb as a command of its own; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service video")
    add_arguments(parser)
    return run(parser.parse_args(argv), settings)


def run(params: argparse.Namespace, settings: Settings) -> int:
    """Convert the clip; return 0, or 1 with one line on standard error (130 when interrupted)."""
    try:
        if not params.output:
            raise VideoError("-o names no file")
        if params.server:
            return _run_remotely(params, settings)
        if params.output != PIPE and Path(params.output).is_file() and not params.force:
            raise VideoError(f"{params.output} exists already; --force overwrites it")
        return asyncio.run(_run(params, settings))
    except (VideoError, ServiceError) as error:
        print(f"video: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        print("video: the program that reads the output went away", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        is_kept = "; run it again to go on" if params.server else "; nothing was written"
        print(f"video: stopped{is_kept}", file=sys.stderr)
        return 130


def _run_remotely(params: argparse.Namespace, settings: Settings) -> int:
    """Hand a clip, or a folder of them, to a service."""
    _options(params, settings)  # what is wrong is told before anything is sent
    if params.across_cuts or "-" in (params.input, params.output):
        raise VideoError("--server takes files, folders and s3:// addresses, and predicts within scenes only")
    if _retiming(params) is None and params.ahead is params.every is params.fill_lost is None:
        raise VideoError("say one of --ahead, --every, --fill-lost, --fps and --conceal")
    if params.at_once < 1:
        raise VideoError("--at-once must be at least 1")
    mode = {"ahead": params.ahead, "every": params.every, "lost": _lost_text(params)}
    query = {**mode, **{name: getattr(params, name) for name in ("method", "route", "blocks", "scale")}}
    query |= {"fps": params.fps, "conceal": 1 if params.conceal else None}
    query |= {"compare": 1 if params.compare else None, "sound": "none" if params.no_audio else params.sound.value}
    words = {name: str(value) for name, value in query.items() if value is not None}
    places = (params.input, params.output)
    return remote_video.run(
        params.server,
        params.key_file,
        *places,
        words,
        params.at_once,
        settings,
        quiet=params.quiet,
        force=params.force,
    )


def _lost_text(params: argparse.Namespace) -> str | None:
    """Write the lost frames as the service reads them: ranges with commas."""
    if params.fill_lost is None:
        return None
    frames = _lost(params.fill_lost)
    pairs = zip(frames.firsts, frames.lasts, strict=True)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in pairs)


async def _run(params: argparse.Namespace, settings: Settings) -> int:
    conversion = _retiming(params) or VideoParams(_plan(params), params.compare, not params.across_cuts)
    options = _options(params, settings)
    has_sound = not params.no_audio and params.sound is not SoundMode.NONE
    with closing(open_source(params.input, limits=FrameLimits.of(settings), sound=has_sound)) as source:
        out = conversion.shown(source)
        # Nothing to warm up: the first frames of the clip do it.
        quick = dataclasses.replace(settings, warmup_sizes=())
        engine = Batcher(lambda: Predictor.of(quick), quick, Metrics.unseen())
        await engine.start()
        try:
            sink = open_sink(params.output, out, *conversion.size(source), params.sound)
            try:
                for note in (*source.info.notes, *sink.notes):
                    print(f"video: {note}", file=sys.stderr)
                score = FrameScore()
                items = clip_frames(source, conversion, ClipPredictors.of(engine, options, settings), score)
                await _write(params, out.info.frames, items, sink)
                await run_to_end(sink.close)
            except BaseException:
                sink.give_up()
                raise
        finally:
            await engine.close()
    if params.compare:
        print(score.text(), file=sys.stderr)
    return 0


async def _write(params: argparse.Namespace, frames: int | None, items: Outputs, sink: OutFile | OutPipe) -> None:
    progress = None if params.quiet else Progress(frames, sys.stderr, time.monotonic)
    async with aclosing(items):
        async for item, is_prediction in items:
            await run_to_end(partial(sink.write, item))
            if progress and isinstance(item, Timed):
                progress.done(is_prediction)
    if progress:
        progress.end()


def _retiming(params: argparse.Namespace) -> RetimingParams | None:
    """Return how the clip's times change; None where frames are predicted in their places."""
    if params.fps is None and not params.conceal:
        return None
    if params.compare or not (params.ahead is params.every is params.fill_lost is None):
        raise VideoError("--fps and --conceal go with each other, not with --ahead, --every, --fill-lost or --compare")
    return RetimingParams(None if params.fps is None else rate(params.fps), params.conceal, not params.across_cuts)


def _plan(params: argparse.Namespace) -> FramePlan:
    if params.ahead is not None:
        return Ahead(params.ahead)
    if params.every is not None:
        return Every(params.every)
    if params.fill_lost is None:
        raise VideoError("say one of --ahead, --every, --fill-lost, --fps and --conceal")
    return FillLost(_lost(params.fill_lost))


def _lost(name: str) -> FrameRanges:
    try:
        with contextlib.nullcontext(sys.stdin) if name == "-" else Path(name).open(encoding="utf-8") as file:
            # A mark, with which Windows' editors begin, and one character more than may be: a longer list is refused
            # without being read whole.
            return lost_frames(file.read(MAX_LIST + 2).removeprefix("\ufeff"))
    except OSError as error:
        raise VideoError(f"cannot read the list of lost frames {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VideoError(f"the list of lost frames {name} is no text in UTF-8") from error


def _options(params: argparse.Namespace, settings: Settings) -> Options:
    options = Options.parse(
        method=params.method, route=params.route, blocks=params.blocks, scale=params.scale, steps=params.ahead
    )
    if options.route.policy == "sample":
        raise InvalidRequest("--route sample draws another route for each frame; choose auto, full or nine digits")
    try:
        return options.check(settings.max_steps)
    except InvalidRequest as error:
        raise VideoError(f"--ahead: {error}") from error
