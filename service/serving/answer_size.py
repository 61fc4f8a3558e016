"""How large an answer may become, known before anything is predicted: pure."""

from __future__ import annotations

from service.core.errors import TooLarge
from service.core.types import Options

#: Bytes a pixel of a predicted frame, and of its flow and mask (five float32).
FRAME, MAPS = 3, 20


def answer_nbytes(pixels: int, options: Options) -> int:
    """Count the bytes of the frames and maps of one prediction, all of them, before any compression."""
    return pixels * options.frames * (FRAME + (MAPS if options.maps else 0))


def check_answer(pixels: int, options: Options, limit: int) -> int:
    """Return `answer_nbytes` of a frame of `pixels`. Raises TooLarge with the field to change above `limit` bytes."""
    nbytes = answer_nbytes(pixels, options)
    if nbytes <= limit:
        return nbytes
    if options.maps and pixels * options.frames * FRAME <= limit:
        field = "maps"
    elif options.frames > 1:
        field = "t" if options.times else "steps"
    else:
        field = "maps" if options.maps else "frames"
    raise TooLarge(
        f"{options.frames} frames of {pixels} pixels{' with maps' if options.maps else ''} would be {nbytes} bytes; "
        f"an answer may have {limit} here",
        field=field,
    )
