"""`python -m model streams`: what the frames of a stream teach its mixture, in dB and sharpness."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.checkpoint import CheckpointError
from model.cli.values import refuse, whole
from model.evaluation import streams
from model.mixing import weights
from model.training import clips, decode
from model.training.clips import LayoutError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("data", type=Path, help="a folder of clips")
    parser.add_argument("--head", type=Path, default=weights.DEFAULT, help="a mixing head (default: the shipped one)")
    parser.add_argument("--scale", type=float, choices=(1.0, 0.5, 0.25), default=1.0, help="of the size (default 1)")
    parser.add_argument("--steps", type=whole(1), default=3, help="frames ahead that are scored (default 3)")
    parser.add_argument("--every", type=whole(1), default=5, help="score every so many pairs (default 5)")


def main(arguments: argparse.Namespace) -> int:
    """Print a table in Markdown; return the exit code."""
    try:
        files = clips.find(arguments.data, "clips")
        sources = ((clip.name, decode.array(clip), clip.verdict.cuts) for clip in files)
        scores = streams.measure(sources, arguments.head, arguments.scale, arguments.steps, arguments.every)
    except (LayoutError, CheckpointError, OSError) as error:
        return refuse(error)
    if not scores.figures:
        return refuse(f"{arguments.data}: no clip is long enough")
    print("\n".join(_table(scores)))
    return 0


def _table(scores: streams.StreamScores) -> list[str]:
    rows = ["| | alone, dB | gain (standard error) | ahead | worst clip | sharpness |", "| --- " * 6 + "|"]
    for ahead in sorted(scores.figures):
        clip_figures, (gain, error) = list(scores.by_clip(ahead).values()), scores.gain(ahead)
        alone, _, alone_sharpness, taught_sharpness = (
            sum(column) / len(column) for column in zip(*clip_figures, strict=True)
        )
        gains = [figures.taught - figures.alone for figures in clip_figures]
        rows.append(
            f"| t+{ahead} | {alone:.3f} | {gain:+.3f} ({error:.3f}) | {sum(one > 0 for one in gains)} of {len(gains)} "
            f"| {min(gains):+.2f} | {alone_sharpness:.3f} to {taught_sharpness:.3f} |"
        )
    return rows
