"""Warping of both frames along a row of pixels, four pixels at a time, as a part of compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from model.inference.cpu.lanes import FLOAT, INT, VECTOR, Numbers, cgutils, chosen, integer, intrinsic, types
from model.inference.cpu.packing import PRECISE, SEEN

#: Pixels at a time: their places in both frames, x and y, fill a vector.
PIXELS = 4

_WORD = ir.IntType(32)
_FOUR, _EIGHT, _FLOATS = (ir.VectorType(FLOAT, count) for count in (4, 8, VECTOR))
_WORDS = ir.VectorType(_WORD, VECTOR)
_ZEROS = ir.Constant(_FLOATS, [0.0] * VECTOR)
_FLAGS = ["contract"]
#: Where the colours of two pixels of four numbers are.
_COLOURS = (0, 1, 2, 4, 5, 6)


class _Row:
    """Builds instructions that warp both frames to four neighbours of one row."""

    def __init__(self, builder: Any, state: Numbers, biases: Numbers, frames: Numbers, size: Sequence[Any], y: Any):
        """Take flow and mask of the row's first pixel, their biases, and frames 2 x height x width x 4."""
        height, width = size
        self._builder, self._state, self._y = builder, state, y
        flow_bias, mask_bias = self._load(biases), builder.load(biases.on(4).address)
        others = builder.insert_element(ir.Constant(_FOUR, ir.Undefined), mask_bias, ir.Constant(_WORD, 0))
        self._biases = self._joined(flow_bias, others)
        self._row = builder.mul(width, integer(4))
        self._images = frames, frames.on(builder.mul(self._row, height))
        behind = ir.Constant(_FLOATS, [float(lane // 4 * (1 - lane % 2)) for lane in range(VECTOR)])
        nothing = ir.Constant(FLOAT, 0.0)
        self._here = builder.fadd(self._of_axes(nothing, builder.sitofp(y, FLOAT)), behind)
        sides = self._of_axes(builder.trunc(width, _WORD), builder.trunc(height, _WORD))
        self._end = builder.sitofp(builder.sub(sides, ir.Constant(_WORDS, [1] * VECTOR)), _FLOATS)
        self._most = builder.sub(sides, ir.Constant(_WORDS, [2] * VECTOR))
        self._steps = self._of_axes(ir.Constant(_WORD, 4), builder.trunc(self._row, _WORD))

    def warped(self, x: Any) -> list[tuple[Any, Any]]:
        """Return of pixel x and the next three both frames' four numbers, warped, and flow, mask and three more."""
        builder = self._builder
        first = self._state.on(builder.mul(x, integer(6)))
        values = [builder.fadd(self._load(first.on(6 * i), _EIGHT), self._biases) for i in range(PIXELS)]
        pairs = [chosen(builder, *pair, (0, 1, 2, 3, 8, 9, 10, 11)) for pair in (values[:2], values[2:])]
        before, shares = self._places(self._joined(*pairs), x)
        return [(self._sample(before, shares, 4 * i), values[i]) for i in range(PIXELS)]

    def pixel(self, frame: int, x: Any, behind: int) -> Any:
        """Return the four numbers of pixel x + `behind` of a frame."""
        at = self._builder.add(self._builder.mul(self._y, self._row), self._builder.mul(x, integer(4)))
        return self._load(self._images[frame].on(at).on(4 * behind))

    def mixed(self, x: Any, weights: Numbers) -> Any:
        """Return four numbers each of pixel x and the next three: both frames mixed, the previous one by `weights`."""
        pixels = [warped for warped, _ in self.warped(x)]
        pairs = [self._joined(*pixels[i : i + 2]) for i in (0, 2)]
        previous, current = (
            chosen(self._builder, *pairs, [8 * i + lane for i in range(PIXELS) for lane in range(first, first + 4)])
            for first in (0, 4)
        )
        shares = self._load(weights)
        return self._between(current, previous, chosen(self._builder, shares, shares, [i // 4 for i in range(VECTOR)]))

    def _places(self, flow: Any, x: Any) -> tuple[Any, Any]:
        """Return where flow leads: in lane 2 of 4 the number that begins the pixel before, of each frame, and shares.

        A share is the part of the way behind the pixel before. The border repeats: its last pixel is all of the way
        behind the one before it.
        """
        builder = self._builder
        across = self._of_axes(builder.sitofp(x, FLOAT), ir.Constant(FLOAT, 0.0))
        at = builder.fadd(flow, builder.fadd(self._here, across))
        # Comparisons this way round send NaN to 0: broken weights may answer nonsense, not read elsewhere.
        at = builder.select(builder.fcmp_ordered(">", at, _ZEROS), at, _ZEROS)
        at = builder.select(builder.fcmp_ordered("<", at, self._end), at, self._end)
        before = builder.fptosi(at, _WORDS)
        before = builder.select(builder.icmp_signed("<", before, self._most), before, self._most)
        places = builder.mul(before, self._steps)
        swapped = chosen(builder, places, places, [lane ^ 1 for lane in range(VECTOR)])
        return builder.add(places, swapped), builder.fsub(at, builder.sitofp(before, _FLOATS))

    def _sample(self, places: Any, shares: Any, lane: int) -> Any:
        """Return the numbers of one pixel, eight: those of each frame at the place that begins at `lane`."""
        builder, corners = self._builder, []
        for i, image in enumerate(self._images):
            place = builder.extract_element(places, ir.Constant(_WORD, lane + 2 * i))
            corners.append(image.on(builder.zext(place, INT)))
        sides = [self._joined(*(self._load(corner.on(step), _EIGHT) for corner in corners))
                 for step in (integer(0), self._row)]  # fmt: skip
        down = chosen(builder, shares, shares, [lane + 1] * 8 + [lane + 3] * 8)
        columns = self._between(*sides, down)
        west, east = (chosen(builder, columns, columns, [*range(k, k + 4), *range(k + 8, k + 12)]) for k in (0, 4))
        return self._between(west, east, chosen(builder, shares, shares, [lane] * 4 + [lane + 2] * 4))

    def _load(self, numbers: Numbers, kind: Any = _FOUR) -> Any:
        return self._builder.load(self._builder.bitcast(numbers.address, kind.as_pointer()), align=4)

    def _joined(self, one: Any, other: Any) -> Any:
        return chosen(self._builder, one, other, range(2 * one.type.count))

    def _of_axes(self, x: Any, y: Any) -> Any:
        """Return (x, y, x, y, ...)."""
        pair = ir.Constant(ir.VectorType(x.type, 2), ir.Undefined)
        for place, value in enumerate((x, y)):
            pair = self._builder.insert_element(pair, value, ir.Constant(_WORD, place))
        return chosen(self._builder, pair, pair, [0, 1] * (VECTOR // 2))

    def _between(self, near: Any, far: Any, share: Any) -> Any:
        """Return near + share * (far - near)."""
        more = self._builder.fmul(share, self._builder.fsub(far, near, flags=_FLAGS), flags=_FLAGS)
        return self._builder.fadd(near, more, flags=_FLAGS)


@intrinsic
def warp_row(
    _: Any, state: Any, state_at: Any, bias: Any, frames: Any, height: Any, width: Any, y: Any, first: Any,
    maps: Any, maps_at: Any, channels: Any,
) -> Any:  # fmt: skip
    """Write what a block sees of the `width` pixels of row y (`packing.SEEN`), the frames' own 6 only where `first`.

    state: flow and mask of the pixels, 6 numbers each, `bias` still to be added. frames: 2 x height x width x 4, width
    a multiple of 4, height 2 at least. All flat; a pixel of maps has `channels` numbers.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        state, state_at, bias, frames, height, width, y, first, maps, maps_at, channels = arguments

        def numbers(argument: int, array: Any, at: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], array, at)

        out = numbers(8, maps, maps_at)
        row = _Row(builder, numbers(0, state, state_at), numbers(2, bias, integer(0)), numbers(3, frames, integer(0)),
                   (height, width), y)  # fmt: skip
        with cgutils.for_range_slice(builder, integer(0), width, integer(PIXELS), inc=True) as (x, _):
            pixels = [out.on(builder.mul(channels, builder.add(x, integer(i)))) for i in range(PIXELS)]
            with builder.if_then(first):
                for i, pixel in enumerate(pixels):
                    pixel.store(row.pixel(0, x, i))
                    pixel.on(3).store(row.pixel(1, x, i))
            # In this order: each writes numbers beyond its own that the next one writes over.
            for pixel, (warped, seen) in zip(pixels, row.warped(x), strict=True):
                both = chosen(builder, warped, seen, (*_COLOURS, 12, 8, 9, 10, 11, *[11] * 5))
                pixel.on(6).store_precisely(both, PRECISE - 6, SEEN - PRECISE)
        return context.get_dummy_value()

    return types.void(state, place, bias, frames, place, place, place, types.boolean, maps, place, place), build


@intrinsic
def blend_row(
    _: Any, state: Any, state_at: Any, bias: Any, frames: Any, height: Any, width: Any, y: Any,
    weights: Any, count: Any, out: Any,
) -> Any:  # fmt: skip
    """Write `count` pixels of row y of both warped frames, mixed by `weights` of the previous one, to out 3 x width.

    Other arguments as for `warp_row`; up to three pixels more are read and written, so `count` is at most the width.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        state, state_at, bias, frames, height, width, y, weights, count, out = arguments

        def numbers(argument: int, array: Any, at: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], array, at)

        shares, colours = numbers(7, weights, integer(0)), numbers(9, out, integer(0))
        row = _Row(builder, numbers(0, state, state_at), numbers(2, bias, integer(0)), numbers(3, frames, integer(0)),
                   (height, width), y)  # fmt: skip
        with cgutils.for_range_slice(builder, integer(0), count, integer(PIXELS), inc=True) as (x, _):
            mixed = row.mixed(x, shares.on(x))
            for colour in range(3):
                plane = colours.on(builder.add(x, builder.mul(width, integer(colour))))
                plane.store(chosen(builder, mixed, mixed, range(colour, VECTOR, 4)))
        return context.get_dummy_value()

    return types.void(state, place, bias, frames, place, place, place, weights, place, out), build
