"""Reads plain values of settings: numbers within bounds, words of a list, flags."""

from __future__ import annotations

from collections.abc import Callable


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


def flag(text: str) -> bool:
    """Read 1 or 0, yes or no. Raises ValueError for anything else."""
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("must be 1 or 0") from None
