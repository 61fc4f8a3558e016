"""The last layer of a block as a compiled loop: both paths to the frame's size, added to flow and mask.

The layer is a transposed convolution of 4x4 and stride 2. Its outputs are taken by corners: around the point where four
of its input pixels meet lie 2x2 outputs that need these four alone, so that every output is written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.inference.cpu.compiler import ZERO, inlined, prange
from model.inference.cpu.lanes import VECTOR, Lanes, Numbers, integer, intrinsic, splat, types
from model.inference.cpu.matrix_tiles import PANELS, matrix_product
from model.inference.cpu.weights import CORNER, VALUES

_multiply = matrix_product(activate=False)
#: Vectors that a panel takes: a corner has two.
_VECTORS = 2 if 2 in PANELS else 1
_PANELS = CORNER // (_VECTORS * VECTOR)
#: Numbers of a node, a pixel of the motion maps: what it adds to a corner to its right, and to one to its left.
NODE = 2 * CORNER
#: Rows of taps at hand: a corner takes two above it and two below, of which one is the same.
RING = 3


@intrinsic
def _blend_node(
    _: Any, room: Any, out: Any, above: Any, above_next: Any, above_share: Any, below: Any, below_next: Any,
    below_share: Any,
) -> Any:  # fmt: skip
    """Write the 64 numbers of a node at `out` of `room`: two pairs of places, each blended by its share, summed."""
    place, share = types.intp, types.float32

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        room, out, *places = arguments

        def numbers(place: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[0], room, place)

        pairs = [(numbers(places[i]), numbers(places[i + 1]), splat(builder, places[i + 2])) for i in (0, 3)]
        for start in range(0, NODE, VECTOR):
            sides = [near.on(start).load() + part * (far.on(start).load() - near.on(start).load())
                     for near, far, part in pairs]  # fmt: skip
            numbers(out).on(start).store((sides[0] + sides[1]).value)
        return context.get_dummy_value()

    return types.void(room, place, place, place, share, place, place, share), build


@intrinsic
def _add_corner(
    _: Any, state: Any, upper: Any, lower: Any, room: Any, at: Any,
    left: Any, left_next: Any, left_share: Any, right: Any, right_next: Any, right_share: Any,
) -> Any:  # fmt: skip
    """Add a corner's outputs to `state` at `upper` and at `lower`, two pixels each; below zero there is no such row.

    They are the sum of 32 numbers of `room` and of its nodes to both sides, each pair blended by its share.
    """
    place, share = types.intp, types.float32

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        state, upper, lower, room, at, *places = arguments

        def numbers(argument: int, array: Any, place: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], array, place)

        spatial = numbers(3, room, at)
        pairs = [[numbers(3, room, near) for near in pair] for pair in (places[:2], places[3:5])]
        shares = [splat(builder, places[2]), splat(builder, places[5])]
        for row, target in enumerate((upper, lower)):
            with builder.if_then(builder.icmp_signed(">=", target, integer(0))):
                sums: Lanes = spatial.on(VECTOR * row).load()
                for side, ((one, other), part) in enumerate(zip(pairs, shares, strict=True)):
                    near = one.on(CORNER * side + VECTOR * row).load()
                    far = other.on(CORNER * side + VECTOR * row).load()
                    sums = sums + near + part * (far - near)
                there = numbers(0, state, target)
                # Not the whole vector: the next corner would wait for the numbers of its own among them.
                there.store_first((there.load() + sums).value, 2 * VALUES)
        return context.get_dummy_value()

    signature = types.void(state, place, place, room, place, place, place, share, place, place, share)
    return signature, build


@inlined
def _between(at: Any, factor: Any, count: Any) -> Any:
    """Return the places before and behind pixel `at` of `count` enlarged by `factor`, and the part of the way."""
    place = max((at + 0.5) * (1.0 / factor) - 0.5, 0.0)
    before = min(int(place), count - 1)
    return before, min(before + 1, count - 1), np.float32(place - before)


@inlined
def _taps_of(y: Any, side: Any, low: Any, factor: Any, height: Any) -> Any:
    """Return where the taps for row y begin, above and below, the share between them, and numbers from node to node."""
    low_height, low_width = low
    if not 0 <= y < height:
        return low_width * NODE, low_width * NODE, ZERO, 0
    above, below, share = _between(y, factor, low_height)
    first, row = (low_width + 1) * NODE + side * NODE, low_width * 2 * NODE
    return first + above % RING * row, first + below % RING * row, share, 2 * NODE


@inlined
def _write_taps(row: Any, motion: Any, weights: Any, width: Any, room: Any) -> None:
    """Write what a row of motion maps adds to the nodes below (64 numbers a pixel) and above it (64)."""
    channels = motion.shape[2]
    for panel in range(2 * NODE // (_VECTORS * VECTOR)):
        _multiply(
            width, _VECTORS, motion.reshape(-1), ((row + 1) * motion.shape[1] + 1) * channels, channels, 1, 0, channels,
            weights, panel * channels * _VECTORS * VECTOR,
            room, (width + 1) * NODE + row % RING * width * 2 * NODE + panel * _VECTORS * VECTOR, 2 * NODE, room, 0, 0,
        )  # fmt: skip


@inlined
def _join_row(
    y: Any, low: Any, factor: Any, spatial: Any, weights: Any, height: Any, width: Any, room: Any, state: Any
) -> None:
    low_width, inputs = low[1], spatial.shape[2]
    nowhere, corners = low_width * NODE, (low_width + 1 + 2 * RING * low_width) * NODE
    above, above_next, above_share, above_step = _taps_of(y - 1, 0, low, factor, height)
    below, below_next, below_share, below_step = _taps_of(y, 1, low, factor, height)
    for x in range(low_width):
        _blend_node(
            room, x * NODE, above + x * above_step, above_next + x * above_step, above_share,
            below + x * below_step, below_next + x * below_step, below_share,
        )  # fmt: skip
    for panel in range(_PANELS):
        _multiply(
            width + 1, _VECTORS, spatial.reshape(-1), y * spatial.shape[1] * inputs, inputs,
            2, spatial.shape[1] * inputs, 2 * inputs, weights, panel * (weights.shape[0] // _PANELS),
            room, corners + panel * _VECTORS * VECTOR, CORNER, room, 0, 0,
        )  # fmt: skip
    wide, out = state.shape[1] * VALUES, state.reshape(-1)
    left, left_next, left_share = nowhere, nowhere, ZERO
    for x in range(width + 1):
        right, right_next, right_share = nowhere, nowhere, ZERO
        if x < width:
            before, behind, right_share = _between(x, factor, low_width)
            right, right_next = before * NODE, behind * NODE
        upper = (2 * y - 1) * wide + 2 * x * VALUES if y > 0 else -1
        lower = 2 * y * wide + 2 * x * VALUES if y < height else -1
        _add_corner(
            out, upper, lower, room, corners + x * CORNER, left, left_next, left_share, right, right_next, right_share
        )
        left, left_next, left_share = right, right_next, right_share


@inlined
def _join_band(
    first: Any, after: Any, motion: Any, motion_weights: Any, low: Any, factor: Any,
    spatial: Any, weights: Any, height: Any, width: Any, room: Any, state: Any,
) -> None:  # fmt: skip
    # One node of zeros behind the others, for what would lie beside the maps.
    room[low[1] * NODE : (low[1] + 1) * NODE] = ZERO
    # Rows of taps are written as they come into reach; a corner row needs those of the two rows it lies between.
    next_row, _, _ = _between(first - 1, factor, low[0])
    for y in range(first, after):
        _, last, _ = _between(y, factor, low[0])
        for row in range(next_row, last + 1):
            _write_taps(row, motion, motion_weights, low[1], room)
        next_row = max(next_row, last + 1)
        _join_row(y, low, factor, spatial, weights, height, width, room, state)


def join(
    motion: Any, motion_weights: Any, low_height: Any, low_width: Any, factor: Any,
    spatial: Any, weights: Any, height: Any, width: Any, room: Any, state: Any,
) -> None:  # fmt: skip
    """Add the last layer's output, without bias, to state 2h x (2w+3) x 6.

    motion: maps of (h/f)x(w/f) pixels, float32, enlarged here by f (bilinear, half-pixel centres); spatial: maps of
    h x w pixels. Both with borders, their weights packed by corners (`model.inference.cpu.weights`). room: for each
    band of rows that threads share `room_of(w/f, w)` numbers.
    """
    bands = room.shape[0]
    for band in prange(bands):
        first, after = band * (height + 1) // bands, (band + 1) * (height + 1) // bands
        _join_band(
            np.int64(first), np.int64(after), motion, motion_weights, (low_height, low_width), factor,
            spatial, weights, height, width, room[band], state,
        )  # fmt: skip


def room_of(low_width: int, width: int) -> int:
    """Return the numbers that `join` works in: nodes, rows of taps, corners."""
    return (low_width + 1 + 2 * RING * low_width) * NODE + (width + 1) * CORNER
