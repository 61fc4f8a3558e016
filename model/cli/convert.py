"""`python -m model convert`: any checkpoint we can read -> safetensors with metadata."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from model import checkpoint
from model.cli.values import refuse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("source", type=Path, help="a .safetensors, or a published .pkl or .pth (read safely)")
    parser.add_argument("target", type=Path, help="the .safetensors to write")
    parser.add_argument("--half", action="store_true", help="store float16: half the size, relative precision 1e-3")
    parser.add_argument("--version", help="name of these weights, reported by the service")
    parser.add_argument("--training-data", help="what they were trained on")
    parser.add_argument("--colour-order", choices=("RGB", "BGR"), help="channel order the weights expect")
    parser.add_argument("--scores", type=Path, help="JSON of figures to carry, e.g. scores.json of `evaluate`")


def main(arguments: argparse.Namespace) -> int:
    """Read a checkpoint, describe it and write it as safetensors; return the exit code."""
    if arguments.target.suffix != ".safetensors":
        return refuse(f"the file must end in .safetensors, not {arguments.target.suffix!r}")
    try:
        network = checkpoint.load(arguments.source, arguments.colour_order)
        about = checkpoint.metadata(network)
        if arguments.version:
            about = dataclasses.replace(about, version=arguments.version)
        if arguments.training_data:
            about = dataclasses.replace(about, training_data=arguments.training_data)
        if arguments.scores:
            about = dataclasses.replace(about, scores=_scores(arguments.scores))
        checkpoint.save(network, arguments.target, about, torch.float16 if arguments.half else torch.float32)
    except (ValueError, OSError) as error:
        return refuse(error)
    print(f"{arguments.target}: {about.version}, {about.colour_order}, {arguments.target.stat().st_size:,} bytes")
    return 0


def _scores(path: Path) -> dict[str, float]:
    """Read figures by name. ValueError where the file holds anything else."""
    try:
        return {str(name): float(figure) for name, figure in json.loads(path.read_text()).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no JSON object of figures by name") from error
