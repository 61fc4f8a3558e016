"""Exact multiply-adds of any route at any size: convolutions and the routing's linear layer.

Interpolation, warping and activations are not counted (nor are they in the papers' "GFLOPs", which are
multiply-adds). Where FLOPs are meant, one multiply-add is two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from model.dmvfn.config import ModelConfig
from model.inference import padding


class LayerCost(NamedTuple):
    """One convolution on one frame pair."""

    macs: int
    values: int  #: read and written, weights apart


def layers(height: int, width: int, index: int, config: ModelConfig | None = None) -> list[LayerCost]:
    """List the convolutions of block `index`, in order, on one frame pair of height x width pixels (padded first)."""
    config = config or ModelConfig.paper()
    scale, channels, spatial = config.scales[index], config.widths[index], config.spatial_width
    whole = padding.padded(height) * padding.padded(width)
    small, half, quarter = whole // scale**2, whole // (2 * scale) ** 2, whole // (4 * scale) ** 2
    both = channels // 4 + spatial
    return [
        LayerCost(half * 9 * 17 * (channels // 2), small * 17 + half * (channels // 2)),
        LayerCost(quarter * 9 * (channels // 2) * channels, half * (channels // 2) + quarter * channels),
        *[LayerCost(quarter * 9 * channels**2, quarter * 2 * channels)] * 3,
        LayerCost(quarter * 9 * channels * (channels // 4), quarter * (channels + channels // 4)),
        LayerCost(whole // 4 * 9 * 17 * spatial, whole * 17 + whole // 4 * spatial),
        LayerCost(whole // 4 * 9 * spatial**2, whole // 4 * 2 * spatial),
        # A transposed convolution multiplies every input pixel with its whole 4x4x5 kernel.
        LayerCost(whole // 4 * both * 5 * 16, whole // 4 * both + whole * 5),
    ]


def block(height: int, width: int, index: int, config: ModelConfig | None = None) -> int:
    """Count the multiply-adds of block `index` on one frame pair of height x width pixels (padded first)."""
    return sum(layer.macs for layer in layers(height, width, index, config))


def routing(height: int, width: int, config: ModelConfig | None = None, *, published: bool = False) -> int:
    """Count the multiply-adds of the routing module on one frame pair of height x width pixels (padded first).

    As it is run here, the second convolution from sums of its input (`model.dmvfn.conv_mean`); `published`: as the
    authors'
    code computes it, that convolution at every pixel.
    """
    config = config or ModelConfig.paper()
    pixels, maps = padding.padded(height) * padding.padded(width), config.routing_width
    return pixels * 9 * 6 * maps + (pixels if published else 1) * 9 * maps * maps + maps * config.blocks


def count(
    height: int, width: int, route: Sequence[bool], config: ModelConfig | None = None, *, with_routing: bool = True
) -> int:
    """Count the multiply-adds of one prediction whose `route` says for each block whether it runs."""
    config = config or ModelConfig.paper()
    if len(route) != config.blocks:
        raise ValueError(f"a route has {config.blocks} entries, not {len(route)}")
    macs = sum(block(height, width, i, config) for i, runs in enumerate(route) if runs)
    return macs + (routing(height, width, config) if with_routing else 0)
