"""`python -m model flops`: what a route costs at a size."""

from __future__ import annotations

import argparse

from model import checkpoint, flops
from model.cli.values import refuse, whole
from model.dmvfn import routing
from model.dmvfn.config import ModelConfig


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("height", type=whole(1), help="frame height in pixels")
    parser.add_argument("width", type=whole(1), help="frame width in pixels")
    parser.add_argument("--route", default="1" * 9, help="one digit a block, 1 runs it (default: all nine)")
    parser.add_argument("--weights", help="count the network of this checkpoint (default: the published one)")


def main(arguments: argparse.Namespace) -> int:
    """Print a table of multiply-adds; return the exit code."""
    height, width = arguments.height, arguments.width
    try:
        config = checkpoint.load(arguments.weights).config if arguments.weights else ModelConfig.paper()
        route = routing.explicit(arguments.route).tolist()
        total = flops.count(height, width, route, config)
    except ValueError as error:
        return refuse(error)
    for index, runs in enumerate(route):
        cost = flops.block(height, width, index, config)
        print(f"block {index}  scale 1/{config.scales[index]}  {cost / 1e9:8.3f} G  {'runs' if runs else '-'}")
    print(f"routing               {flops.routing(height, width, config) / 1e9:8.3f} G")
    print(f"  as published        {flops.routing(height, width, config, published=True) / 1e9:8.3f} G")
    print(f"route {arguments.route:15} {total / 1e9:8.3f} G multiply-adds, {2 * total / 1e9:.3f} GFLOPs")
    return 0
