"""How large an answer may become, known before anything is predicted, and how large it is: pure."""

from __future__ import annotations

from service.core.errors import TooLarge
from service.core.types import Options, PredictRequest, PredictResult

#: Bytes a pixel of a predicted frame, and of its flow and mask (five float32).
FRAME, MAPS = 3, 20


def answer_nbytes(pixels: int, options: Options) -> int:
    """Count the bytes of the frames and maps of one prediction, all of them, before any compression."""
    return pixels * options.frames * (FRAME + (MAPS if options.maps else 0))


def answer_reserve(request: PredictRequest) -> int:
    """Count the bytes that the answer to `request` needs beyond its frames, which are let go of once it is predicted.

    An answer is its frames, its maps if they are asked for, and the encoding of both, which is taken to be as large.
    """
    current = request.current
    return max(0, 2 * answer_nbytes(current.height * current.width, request.options) - request.nbytes)


def result_nbytes(result: PredictResult) -> int:
    """Count the bytes of a prediction's frames and maps."""
    arrays = (array for step in result.steps for array in (step.frame.pixels, step.flow, step.mask))
    return sum(array.nbytes for array in arrays if array is not None)


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
