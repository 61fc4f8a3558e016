"""The same gains on clips that nothing was tuned to, beside those on the clips that decisions looked at.

Works on the plain values of `report.figures`. Knows nothing of frames or networks.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

#: Methods beside whose gain the other clips' is shown, where both reports have them.
COMPARED = (
    "dis fast",
    "dis sparse projected",
    "dis projected",
    "dis mean",
    "mean of three",
    "flow",
    "sharp",
    "live",
    "auto",
)
#: Those whose gains must be the same there.
JUDGED = ("flow", "live")
#: Two gains are called the same within so many dB.
TOLERANCE = 0.15


class Gains(NamedTuple):
    """What a method gains over DIS on one report's clips; dB, and MS-SSIM times 100."""

    next_frame: float
    error: float  #: standard error of that mean over clips
    ahead: int
    clips: int
    three_frames: float  #: as the mean over three steps
    ms_ssim: float
    worst: float  #: of a clip's next frame, against the better of DIS and repeating
    sharpness: float


def unnamed(figures: dict[str, Any]) -> dict[str, Any]:
    """Return a report's values with its clips called by numbers: for clips of which nothing may be passed on."""
    clips = figures["psnr_t1_by_clip"].values()
    by_number = {f"clip {number:02}": row for number, row in enumerate(clips, 1)}
    return {**figures, "psnr_t1_by_clip": by_number, "command": "python -m model evaluate FOLDER --unnamed"}


def gains(figures: dict[str, Any], method: str) -> Gains:
    """Compute what `method` gains in a report's values. KeyError where they lack it or DIS."""
    clips = list(figures["psnr_t1_by_clip"].values())
    over = [row[method] - row["dis"] for row in clips]
    mean = sum(over) / len(over)
    error = math.sqrt(sum((gain - mean) ** 2 for gain in over) / max(1, len(over) - 1) / len(over))
    rows = {(row["method"], row["mean_over_steps_1_to"]): row for row in figures["methods"]}
    own, dis = rows[method, 1], rows["dis", 1]
    return Gains(
        mean,
        error,
        sum(gain > 0 for gain in over),
        len(over),
        rows[method, 3]["psnr"] - rows["dis", 3]["psnr"],
        100 * (own["ms_ssim"] - dis["ms_ssim"]),
        min(row[method] - max(row["dis"], row["repeat"]) for row in clips),
        own["sharpness"],
    )


def section(tuned: dict[str, Any], others: dict[str, Any]) -> str:
    """Write Markdown that compares two reports' values; `others` are of clips that nothing was tuned to."""
    count = len(others["psnr_t1_by_clip"])
    lines = [
        "## On clips that nothing was tuned to",
        "",
        f"{count} other clips ({others['windows']} windows), which no training and no choice looked at.",
        "Gains over DIS as it is, first on the clips above, then there; in brackets standard errors over clips.",
        "",
        "| method | t+1 dB | there | difference | ahead there | t+3 dB | there | MS-SSIM x100 | there "
        "| worst dB | there | sharpness there |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in COMPARED:
        if not _has(tuned, others, method):
            continue
        here, there = gains(tuned, method), gains(others, method)
        lines.append(
            f"| {method} | {here.next_frame:+.2f} ({here.error:.2f}) | {there.next_frame:+.2f} ({there.error:.2f}) "
            f"| {there.next_frame - here.next_frame:+.2f} | {there.ahead} of {there.clips} "
            f"| {here.three_frames:+.2f} | {there.three_frames:+.2f} | {here.ms_ssim:+.2f} | {there.ms_ssim:+.2f} "
            f"| {here.worst:+.2f} | {there.worst:+.2f} | {there.sharpness:.2f} |"
        )
    rows = [(method, gains(tuned, method), gains(others, method)) for method in JUDGED if _has(tuned, others, method)]
    for method, here, there in rows:
        for horizon, apart in (
            ("t+1", there.next_frame - here.next_frame),
            ("t+3", there.three_frames - here.three_frames),
        ):
            verdict = "within" if abs(apart) <= TOLERANCE else "**not within**"
            lines += ["", f"`{method}` at {horizon}: {apart:+.2f} dB, {verdict} the {TOLERANCE} dB that were the goal."]
    return "\n".join(lines) + "\n"


def _has(tuned: dict[str, Any], others: dict[str, Any], method: str) -> bool:
    return all(method in row for figures in (tuned, others) for row in figures["psnr_t1_by_clip"].values())
