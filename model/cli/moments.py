"""`python -m model moments`: one prediction carried to several moments, against rollouts, in dB and in time."""

from __future__ import annotations

import argparse
from pathlib import Path

from model import checkpoint
from model.checkpoint import CheckpointError
from model.cli.values import refuse, whole
from model.evaluation import moments, protocols
from model.mixing import weights as heads
from model.training.clips import LayoutError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("data", type=Path, help="a folder of clips")
    parser.add_argument("--weights", type=Path, default=checkpoint.DEFAULT, help="default: the shipped weights")
    parser.add_argument("--head", type=Path, default=heads.DEFAULT, help="a mixing head (default: the shipped one)")
    parser.add_argument("--per-clip", type=whole(1), default=2, help="windows of each clip (default 2)")
    parser.add_argument("--limit", type=whole(1), help="stop after so many windows")
    parser.add_argument("--tries", type=whole(1), default=15, help="the least time of so many counts (default 15)")


def main(arguments: argparse.Namespace) -> int:
    """Print two tables in Markdown; return the exit code."""
    try:
        methods = moments.ways(checkpoint.load(arguments.weights), arguments.head)
        windows = list(protocols.windows("clips", arguments.data, arguments.per_clip, moments.STEPS))[: arguments.limit]
    except (LayoutError, CheckpointError, OSError) as error:
        return refuse(error)
    if not windows:
        return refuse(f"{arguments.data}: no clip is long enough")
    times = moments.horizons(methods, (windows[0].previous, windows[0].current), arguments.tries)
    scores = moments.measure(methods, windows, lambda count: None)
    print("\n".join([*_table(scores), "", *_times(times)]))
    return 0


def _table(scores: moments.MomentScores) -> list[str]:
    whole = range(1, moments.STEPS + 1)
    rows = ["| method | t = 0.5 | " + " | ".join(f"t = {t}" for t in whole) + " |", "| --- " * (len(whole) + 2) + "|"]
    for way in dict.fromkeys(way for way, _ in scores.figures):
        if way == "repeat, steps":
            continue
        half = f"{scores.mean(way, moments.HALF):.2f}" if (way, moments.HALF) in scores.figures else ""
        figures = " | ".join(f"{scores.mean(way, t):.2f}" for t in whole)
        rows.append(f"| {way.removesuffix(', t') if way.startswith('repeat') else way} | {half} | {figures} |")
    return [f"{len(scores.clips)} windows, PSNR in dB:", "", *rows]


def _times(times: dict[str, list[float]]) -> list[str]:
    rows = [f"| method | one frame | `t=1,…,{moments.FAR}` | `steps={moments.FAR}` |", "| --- " * 4 + "|"]
    for name, (one, far, roll) in times.items():
        rows.append(f"| {name} | {one:.1f} ms | {far / one:.2f} times | {roll / one:.2f} times |")
    return rows
