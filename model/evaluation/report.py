"""Writes an evaluation as Markdown and JSON; the same figures, for people and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from model.evaluation import comparison, published, summary
from model.evaluation.measure import METRICS, Measurement
from model.evaluation.summary import SummaryRow


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """What was evaluated, and how to do it again."""

    weights: str
    protocol: str
    steps: tuple[int, ...]
    windows: int
    command: str

    @property
    def by_clip(self) -> bool:
        """Tell whether means are taken over clips (folders of clips) or over windows (the benchmarks)."""
        return self.protocol == "clips"


def budget_lines(measurement: Measurement) -> list[SummaryRow]:
    """Summarise every method at t+1 on the windows that budgets were measured on, so that the lines compare."""
    windows = {score.window for score in measurement.scores if score.method.startswith("budget")}
    on_those = [score for score in measurement.scores if score.window in windows]
    return summary.lines(on_those, (1,), by_clip=True)


def figures(evaluation: EvaluationRun, measurement: Measurement) -> dict[str, Any]:
    """Return the tables as plain values; nan becomes null."""
    lines = summary.lines(measurement.scores, evaluation.steps, evaluation.by_clip)
    lines = [line for line in lines if not line.method.startswith("budget")]
    return {
        "weights": evaluation.weights,
        "protocol": evaluation.protocol,
        "windows": evaluation.windows,
        "command": evaluation.command,
        "methods": [_row(line) for line in lines],
        "budgets_on_first_windows": [_row(line) for line in budget_lines(measurement)],
        "psnr_t1_by_clip": {
            clip: {method: _rounded(value, 3) for method, value in row.items()}
            for clip, row in summary.per_clip(measurement.scores).items()
        },
        "milliseconds": {method: _rounded(value, 2) for method, value in measurement.milliseconds.items()},
        "block_usage_auto": [_rounded(share, 3) for share in summary.usage(measurement.scores)],
        "published": [
            {"method": row.method, "ms_ssim_x100": row.ms_ssim, "lpips_x100": row.lpips, "origin": row.origin}
            for row in published.ROWS.get(evaluation.protocol, ())
        ],
    }


def checkpoint_scores(evaluation: EvaluationRun, measurement: Measurement) -> dict[str, float]:
    """Return the few figures that a checkpoint carries in its metadata."""
    by_name = {
        (line.method, line.upto): line
        for line in summary.lines(measurement.scores, evaluation.steps, evaluation.by_clip)
    }
    names = {"auto": "", "full": "_full", "repeat": "_repeat", "dis": "_dis"}
    scores = {}
    for method, suffix in names.items():
        for upto in evaluation.steps:
            for metric in ("psnr", "ms_ssim"):
                value = by_name[(method, upto)].values[metric]
                if not math.isnan(value):
                    scores[f"{metric}_t{upto}{suffix}"] = round(value, 4)
    return scores


def as_json(evaluation: EvaluationRun, measurement: Measurement) -> str:
    """Serialise `figures`, indented."""
    return json.dumps(figures(evaluation, measurement), indent=1) + "\n"


def timed_lines(evaluation: EvaluationRun, measurement: Measurement) -> list[SummaryRow]:
    """List every method at t+1 on all windows, for the plot against time."""
    return summary.lines(measurement.scores, (1,), evaluation.by_clip)


def markdown(
    evaluation: EvaluationRun, measurement: Measurement, plot: str | None = None, time_plot: str | None = None
) -> str:
    """Write the report; `plot` and `time_plot`: paths of quality against cost and against time, relative to it."""
    lines = summary.lines(measurement.scores, evaluation.steps, evaluation.by_clip)
    full = next(line for line in lines if line.method == "full" and line.upto == 1)
    main = [line for line in lines if not line.method.startswith("budget")]
    budgets = budget_lines(measurement)
    parts = [
        f"Weights `{evaluation.weights}`, protocol `{evaluation.protocol}`, {evaluation.windows} windows. "
        f"Again: `{evaluation.command}`",
        "",
        '"t+k" is the mean over steps 1..k; '
        + ("means over clips of each clip's mean." if evaluation.by_clip else "means over windows."),
        "",
        *_table(main, full),
        "",
        "Sharpness is the energy of the Laplacian over the truth's.",
        "",
        *_comparison(measurement, time_plot),
        "## Block budgets: quality against cost at t+1",
        "",
        "On the first window of each clip.",
        "",
        *_table(budgets, next(line for line in budgets if line.method == "full") if budgets else full),
        "",
        *([f"![PSNR against multiply-adds]({plot})", ""] if plot else []),
        "Share of frames on which `auto` ran each block: "
        + ", ".join(f"{i}: {share:.2f}" for i, share in enumerate(summary.usage(measurement.scores)))
        + ".",
        "",
        "## PSNR of the next frame, by clip",
        "",
        *_clip_table(summary.per_clip(measurement.scores)),
        *_published(evaluation),
    ]
    return "\n".join(parts) + "\n"


def _row(line: SummaryRow) -> dict[str, Any]:
    return {
        "method": line.method,
        "mean_over_steps_1_to": line.upto,
        **{metric: _rounded(line.values[metric], 5) for metric in METRICS},
        "giga_macs_per_frame": _rounded(line.macs_per_frame / 1e9, 4),
        "blocks": _rounded(line.blocks, 3),
    }


def _table(lines: list[SummaryRow], full: SummaryRow) -> list[str]:
    rows = [
        "| method | horizon | PSNR dB | SSIM | MS-SSIM x100 | LPIPS x100 | sharpness "
        "| blocks | G multiply-adds | of `full` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        values = line.values
        network = line.macs_per_frame > 0
        rows.append(
            f"| {line.method} | t+{line.upto} | {_shown(values['psnr'], 2)} | {_shown(values['ssim'], 4)} "
            f"| {_shown(values['ms_ssim'] * 100, 2)} | {_shown(values['lpips'] * 100, 2)} "
            f"| {_shown(values['sharpness'], 2)} "
            f"| {_shown(line.blocks, 2) if network else '-'} "
            f"| {_shown(line.macs_per_frame / 1e9, 2) if network else '-'} "
            f"| {f'{line.macs_per_frame / full.macs_per_frame:.0%}' if network else '-'} |"
        )
    return rows


def _comparison(measurement: Measurement, time_plot: str | None) -> list[str]:
    rows = [
        "## Against what fits around OpenCV in ten lines",
        "",
        "PSNR of the next frame, clip by clip: mean gain over DIS (with its standard error over clips) and over the",
        "mean of two DIS warps, and the worst clip against the better of DIS and repeating. Milliseconds: one frame of",
        "256 x 448, processor time of one thread on the machine that timed them, the least of fifteen tries.",
        "",
        "| method | over DIS dB | ahead on | over the mean dB | worst clip dB | ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for line in comparison.compare(measurement.scores):
        milliseconds = measurement.milliseconds.get(line.method, math.nan)
        rows.append(
            f"| {line.method} | {line.over_dis:+.2f} ({line.error_over_dis:.2f}) | {line.ahead_of_dis} of {line.clips} "
            f"| {line.over_mean:+.2f} | {line.worst:+.2f} | {_shown(milliseconds, 1)} |"
        )
    return [*rows, "", *([f"![PSNR against time]({time_plot})", ""] if time_plot else [])]


def _clip_table(clips: dict[str, dict[str, float]]) -> list[str]:
    names = ["repeat", "dis", "dis mean", "farneback", "full", "auto", "mean of three", "flow", "sharp", "mix", "live"]
    columns = [name for name in names if all(name in row for row in clips.values())]
    rows = ["| clip | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for clip, row in clips.items():
        rows.append(f"| {clip} | " + " | ".join(_shown(row[column], 2) for column in columns) + " |")
    return rows


def _published(evaluation: EvaluationRun) -> list[str]:
    rows = published.ROWS.get(evaluation.protocol, ())
    if not rows:
        return []
    horizons = "/".join(f"t+{step}" for step in evaluation.steps)
    table = [
        "",
        "## Published figures for the same protocol",
        "",
        "Other people's figures, not measured here. *unverified*: to be checked against the paper before being quoted.",
        "",
        f"| method | MS-SSIM x100 {horizons} | LPIPS x100 {horizons} | G multiply-adds | origin |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [" ".join("-" if v is None else f"{v:.2f}" for v in values) for values in (row.ms_ssim, row.lpips)]
        cost = "-" if row.giga_macs is None else f"{row.giga_macs:.2f}"
        table.append(f"| {row.method} | {cells[0]} | {cells[1]} | {cost} | published, {row.origin} |")
    return table


def _shown(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _rounded(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)
