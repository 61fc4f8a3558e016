"""Reads the moments `t` at which frames are to be shown: real numbers, in frame intervals after the current frame."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from service.core.errors import InvalidRequest

#: What a carried frame takes, in passes that predict one: it is only sampled, along a motion that is known.
CARRIED = 0.06

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")


def read(text: str) -> tuple[float, ...]:
    """Read one or several moments, separated by commas, e.g. "0.5,1,2.7". Raises InvalidRequest."""
    words = [word.strip() for word in text.split(",")]
    if not all(_NUMBER.fullmatch(word) for word in words):
        raise InvalidRequest("t must be a number such as 0.5, or several, separated by commas", field="t")
    return tuple(map(float, words))


def of_json(value: object) -> tuple[float, ...]:
    """Take moments from JSON: a number, a list of numbers, or a string as `read` takes it. Raises InvalidRequest."""
    if isinstance(value, str):
        return read(value)
    numbers: list[Any] = value if isinstance(value, list) else [value]
    if not numbers or any(type(number) not in (int, float) for number in numbers):
        raise InvalidRequest("t must be a number or a list of numbers", field="t")
    return of_numbers(numbers)


def of_numbers(numbers: Iterable[float]) -> tuple[float, ...]:
    """Take moments that came as numbers. Raises InvalidRequest where one is too large for a float, or not finite."""
    try:
        moments = tuple(map(float, numbers))
    except OverflowError:
        moments = (math.inf,)
    if not all(map(math.isfinite, moments)):
        raise InvalidRequest("t must be finite", field="t")
    return moments


def check(moments: tuple[float, ...], most: int) -> None:
    """Raise InvalidRequest unless there are at most `most` moments, each above 0 and at most `most`."""
    if len(moments) > most:
        raise InvalidRequest(f"t may have at most {most} values", field="t")
    if not all(0 < t <= most for t in moments):
        raise InvalidRequest(f"t must be above 0 and at most {most}", field="t")


def text(t: float) -> str:
    """Write a moment as it is shown: "0.5", and "2" for 2.0."""
    return f"{t:.9f}".rstrip("0").rstrip(".")
