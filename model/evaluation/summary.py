"""Means of scores: per clip, per method, over steps as the benchmarks take them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from model.evaluation.measure import METRICS, WindowScore


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One method at one horizon."""

    method: str
    upto: int  #: the mean over steps 1..upto
    values: dict[str, float]  #: by metric; nan where no frame had it
    macs_per_frame: float
    blocks: float


def methods(scores: list[WindowScore]) -> list[str]:
    """List method names in the order of first appearance."""
    return list(dict.fromkeys(score.method for score in scores))


def lines(scores: list[WindowScore], upto: tuple[int, ...], by_clip: bool) -> list[SummaryRow]:
    """Summarise every method at every horizon it reached.

    by_clip: the mean over clips of each clip's mean, so that a clip with more windows weighs no more; otherwise
    the mean over windows, as the published scripts take it.
    """
    rows = []
    for method in methods(scores):
        own = [score for score in scores if score.method == method]
        for limit in upto:
            within = [score for score in own if score.step <= limit]
            if max(score.step for score in own) >= limit:
                rows.append(_line(method, limit, within, by_clip))
    return rows


def per_clip(scores: list[WindowScore], metric: str = "psnr", step: int = 1) -> dict[str, dict[str, float]]:
    """Average a metric at one step: clip -> method -> mean."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        if score.step == step:
            groups[score.clip][score.method].append(getattr(score, metric))
    return {clip: {method: mean(values) for method, values in rows.items()} for clip, rows in groups.items()}


def usage(scores: list[WindowScore], method: str = "auto") -> list[float]:
    """Return the share of frames, 0..1, on which each block ran under a method."""
    routes = [score.route for score in scores if score.method == method]
    return [mean([float(route[i]) for route in routes]) for i in range(len(routes[0]))] if routes else []


def mean(values: list[float]) -> float:
    """Average the values that are no nan; nan where all are."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _line(method: str, limit: int, within: list[WindowScore], by_clip: bool) -> SummaryRow:
    groups: dict[str, list[WindowScore]] = defaultdict(list)
    for score in within:
        groups[score.clip if by_clip else f"{score.clip}/{score.window}"].append(score)
    values = {
        metric: mean([mean([getattr(score, metric) for score in group]) for group in groups.values()])
        for metric in METRICS
    }
    # Costs compare at equal sizes only: means over the same frames for every method.
    macs = mean([mean([score.macs for score in group]) for group in groups.values()])
    blocks = mean([float(score.route.count("1")) for score in within])
    return SummaryRow(method, limit, values, macs, blocks)
