"""Reads plain values of settings: numbers within bounds, words of a list, names, sizes, flags."""

from __future__ import annotations

import re
from collections.abc import Callable

from service.addresses import words_of


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`. It raises ValueError for anything else."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"must be between {low} and {high}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`. It raises ValueError for anything else."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # also refuses nan
            raise ValueError(f"must be between {low:g} and {high:g}")
        return value

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """Return a parser that takes one of `names`. It raises ValueError for anything else."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return parse


def device(text: str) -> str:
    """Read the name of a device. Raises ValueError for none that the service knows."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return text


def flag(text: str) -> bool:
    """Read 1 or 0, yes or no. Raises ValueError for anything else."""
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("must be 1 or 0") from None


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Read sizes such as 256x448,512x1024, height first."""
    pairs = []
    for word in words_of(text):
        height, _, width = word.partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
            raise ValueError("must be sizes like 256x448,512x1024 (height x width)")
        pairs.append((int(height), int(width)))
    return tuple(pairs)


def name(text: str) -> str:
    """Read a name of at most 64 letters, digits, dots, dashes and underscores."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores")
    return text
