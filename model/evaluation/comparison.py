"""Methods against a rival, clip by clip: mean gain, its error, how often ahead, and the worst clip."""

from __future__ import annotations

import math
from typing import NamedTuple

from model.evaluation import summary
from model.evaluation.measure import WindowScore


class Comparison(NamedTuple):
    """One method against others at t+1, PSNR in dB; nan where a rival was not measured."""

    method: str
    over_dis: float
    error_over_dis: float  #: standard error of the mean over clips
    ahead_of_dis: int
    clips: int
    over_mean: float  #: over the mean of two DIS warps
    worst: float  #: least gain of a clip over the better of DIS and repeating


def compare(scores: list[WindowScore]) -> list[Comparison]:
    """Compare every method measured on every clip, in the order of first appearance."""
    clips = summary.per_clip(scores)
    comparisons = []
    for method in summary.methods(scores):
        # Budgets are measured on each clip's first window alone.
        if method.startswith("budget"):
            continue
        rows = [row for row in clips.values() if method in row]
        if len(rows) != len(clips):
            continue
        gains = [row[method] - row.get("dis", math.nan) for row in rows]
        mean = sum(gains) / len(gains)
        spread = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / max(1, len(gains) - 1) / len(gains))
        comparisons.append(
            Comparison(
                method,
                mean,
                spread,
                sum(gain > 0 for gain in gains),
                len(rows),
                sum(row[method] - row.get("dis mean", math.nan) for row in rows) / len(rows),
                min(row[method] - max(row.get("dis", math.nan), row.get("repeat", math.nan)) for row in rows),
            )
        )
    return comparisons
