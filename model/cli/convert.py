"""`python -m model convert`: any checkpoint we can read -> safetensors with metadata."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from model import checkpoint


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
    try:
        network = checkpoint.load(arguments.source, arguments.colour_order)
        about = checkpoint.metadata(network)
        if arguments.version:
            about = dataclasses.replace(about, version=arguments.version)
        if arguments.training_data:
            about = dataclasses.replace(about, training_data=arguments.training_data)
        if arguments.scores:
            about = dataclasses.replace(about, scores=json.loads(arguments.scores.read_text()))
        checkpoint.save(network, arguments.target, about, torch.float16 if arguments.half else torch.float32)
    except (ValueError, OSError) as error:
        print(f"error: {error}")
        return 2
    print(f"{arguments.target}: {about.version}, {about.colour_order}, {arguments.target.stat().st_size:,} bytes")
    return 0
