"""Values of the command line, checked as it is read; and how a verb refuses what it cannot use."""

from __future__ import annotations

import math
import sys
import threading
from argparse import ArgumentTypeError
from collections.abc import Callable

import torch

#: The exit code of a command that cannot begin.
REFUSED = 2


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number from `least` to `most` (None: any); it raises ArgumentTypeError for others."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise ArgumentTypeError(f"a whole number {bounds} expected, not {text!r}")
        return number

    return read


def seconds(text: str) -> float:
    """Read a time in seconds, above 0 and no longer than a thread may wait. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= threading.TIMEOUT_MAX:
        raise ArgumentTypeError(f"seconds above 0 expected, not {text!r}")
    return number


def device(text: str) -> str:
    """Return the name of a torch device that this machine has. Raises ArgumentTypeError."""
    try:
        place = torch.device(text)
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError) as error:
        # torch's own messages run over several lines, the first of which says what is wrong.
        raise ArgumentTypeError(f"{text!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return text


def device_or_auto(text: str) -> str:
    """Read `auto`, or as `device`."""
    return text if text == "auto" else device(text)


def refuse(reason: object) -> int:
    """Tell on standard error why a verb does not begin; return the exit code."""
    print(f"error: {reason}", file=sys.stderr)
    return REFUSED
