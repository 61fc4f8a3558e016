"""Warping of both frames along a row of pixels, as a part of compiled loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from model.inference.cpu.lanes import (
    FLOAT,
    INT,
    VECTOR,
    Numbers,
    cgutils,
    chosen,
    in_two,
    integer,
    intrinsic,
    rounded,
    types,
)
from model.inference.cpu.packing import PRECISE, SEEN, SEEN_BY_AMX

#: Pixels whose places are computed before the first of them is read: a place that is read at once is waited for.
_RUN = 16
#: Pixels at a time, and the numbers of their places in both frames, x and y.
_PIXELS, _PLACES = 2, 8

_WORD = ir.IntType(32)
_FOUR, _FLOATS, _WORDS = ir.VectorType(FLOAT, 4), ir.VectorType(FLOAT, _PLACES), ir.VectorType(_WORD, _PLACES)
_ZEROS = ir.Constant(_FLOATS, [0.0] * _PLACES)
_FLAGS = ["contract"]
#: Where the colours of two pixels of four numbers are.
_COLOURS = (0, 1, 2, 4, 5, 6)


#: The four numbers of a pixel in both frames, warped, and its flow, mask and three more numbers.
_Warped = tuple[Any, Any]
#: Writes two pixels, given the builder, their places, eight numbers of each frame and what is warped.
_Store = Callable[[Any, Sequence[Numbers], Sequence[Any], Sequence[_Warped]], None]


class _Row:
    """Builds instructions that warp both frames to neighbours of one row."""

    def __init__(self, builder: Any, state: Numbers, biases: Numbers, frames: Numbers, size: Sequence[Any], y: Any):
        """Take flow and mask of the row's first pixel, their biases, and frames 2 x height x width x 4."""
        height, width = size
        self._builder, self._state, self._y = builder, state, y
        flow_bias, mask_bias = self._load(biases), builder.load(biases.on(4).address)
        others = builder.insert_element(ir.Constant(_FOUR, ir.Undefined), mask_bias, ir.Constant(_WORD, 0))
        self._biases = self._joined(flow_bias, others)
        self._row = builder.mul(width, integer(4))
        self._images = frames, frames.on(builder.mul(self._row, height))
        # Of the previous frame both pixels' places, then of the current one.
        second = ir.Constant(_FLOATS, [0.0, 0.0, 1.0, 0.0] * 2)
        self._here = builder.fadd(self._of_axes(ir.Constant(FLOAT, 0.0), builder.sitofp(y, FLOAT)), second)
        sides = self._of_axes(builder.trunc(width, _WORD), builder.trunc(height, _WORD))
        self._end = builder.sitofp(builder.sub(sides, ir.Constant(_WORDS, [1] * _PLACES)), _FLOATS)
        self._most = builder.sub(sides, ir.Constant(_WORDS, [2] * _PLACES))
        self._steps = self._of_axes(ir.Constant(_WORD, 4), builder.trunc(self._row, _WORD))
        self._run_places, self._run_shares = (
            cgutils.alloca_once(builder, ir.ArrayType(kind, _RUN // _PIXELS)) for kind in (_WORDS, _FLOATS)
        )

    def look_up(self, first: Any) -> None:
        """Compute where the flow of pixel `first` and of those of its run behind it leads."""
        builder = self._builder
        with cgutils.for_range(builder, integer(_RUN // _PIXELS)) as loop:
            x = builder.add(first, builder.mul(loop.index, integer(_PIXELS)))
            one, other = self._values(x)
            flow = chosen(builder, one, other, (0, 1, 8, 9, 2, 3, 10, 11))
            places, shares = self._places(flow, x)
            for room, value in ((self._run_places, places), (self._run_shares, shares)):
                builder.store(value, builder.gep(room, [integer(0), loop.index]), align=4)

    def warped(self, first: Any, behind: Any) -> list[_Warped]:
        """Return of a run's pixel and the next one both frames' four numbers, warped, and flow, mask and three more.

        The run begins at pixel `first`, is looked up, and the pixel is `behind` it, an even number.
        """
        builder = self._builder
        pair = builder.lshr(behind, integer(1))
        places = builder.bitcast(builder.gep(self._run_places, [integer(0), pair]), _WORD.as_pointer())
        shares = builder.load(builder.gep(self._run_shares, [integer(0), pair]), align=4)
        values = self._values(builder.add(first, behind))
        return [(self._sample(places, shares, 2 * i), values[i]) for i in range(_PIXELS)]

    def _values(self, x: Any) -> list[Any]:
        start = self._state.on(self._builder.mul(x, integer(6)))
        return [self._builder.fadd(self._load(start.on(6 * i), _FLOATS), self._biases) for i in range(_PIXELS)]

    def pixels(self, frame: int, x: Any) -> Any:
        """Return the eight numbers of pixel x of a frame and the next one."""
        at = self._builder.add(self._builder.mul(self._y, self._row), self._builder.mul(x, integer(4)))
        return self._load(self._images[frame].on(at), _FLOATS)

    def mixed(self, first: Any, behind: Any, weights: Numbers) -> Any:
        """Return four numbers each of a run's pixel and the next three: both frames, the previous one by `weights`."""
        starts = (self._builder.add(behind, integer(i)) for i in (0, _PIXELS))
        pixels = [warped for start in starts for warped, _ in self.warped(first, start)]
        left, right = (self._joined(pixels[i], pixels[i + 1]) for i in (0, 2))
        previous, current = (
            chosen(self._builder, left, right, [8 * i + lane for i in range(4) for lane in range(first, first + 4)])
            for first in (0, 4)
        )
        shares = self._load(weights)
        return self._between(current, previous, chosen(self._builder, shares, shares, [i // 4 for i in range(VECTOR)]))

    def _places(self, flow: Any, x: Any) -> tuple[Any, Any]:
        """Return where flow leads: in even lanes the number that begins the pixel before, and in all lanes shares.

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
        swapped = chosen(builder, places, places, [lane ^ 1 for lane in range(_PLACES)])
        return builder.add(places, swapped), builder.fsub(at, builder.sitofp(before, _FLOATS))

    def _sample(self, places: Any, shares: Any, lane: int) -> Any:
        """Return the numbers of one pixel, eight: those of each frame at the places in `lane` and four lanes on."""
        builder, corners = self._builder, []
        for i, image in enumerate(self._images):
            place = builder.load(builder.gep(places, [integer(lane + 4 * i)]))
            corners.append(image.on(builder.zext(place, INT)))
        across, down = (chosen(builder, shares, shares, [at] * 4 + [at + 4] * 4) for at in (lane, lane + 1))
        sides = []
        for column in (0, 4):
            above, below = (
                self._joined(*(self._load(corner.on(row).on(column)) for corner in corners))
                for row in (integer(0), self._row)
            )
            sides.append(self._between(above, below, down))
        west, east = sides
        return self._between(west, east, across)

    def _load(self, numbers: Numbers, kind: Any = _FOUR) -> Any:
        return self._builder.load(self._builder.bitcast(numbers.address, kind.as_pointer()), align=4)

    def _joined(self, one: Any, other: Any) -> Any:
        return chosen(self._builder, one, other, range(2 * one.type.count))

    def _of_axes(self, x: Any, y: Any) -> Any:
        """Return (x, y, x, y, ...)."""
        pair = ir.Constant(ir.VectorType(x.type, 2), ir.Undefined)
        for place, value in enumerate((x, y)):
            pair = self._builder.insert_element(pair, value, ir.Constant(_WORD, place))
        return chosen(self._builder, pair, pair, [0, 1] * (_PLACES // 2))

    def _between(self, near: Any, far: Any, share: Any) -> Any:
        """Return near + share * (far - near)."""
        more = self._builder.fmul(share, self._builder.fsub(far, near, flags=_FLAGS), flags=_FLAGS)
        return self._builder.fadd(near, more, flags=_FLAGS)


@contextmanager
def _runs(builder: Any, row: _Row, count: Any, step: int) -> Iterator[tuple[Any, Any]]:
    """Build a loop over `count` pixels of a row up to whole runs: where the run begins, and the pixel in it."""
    with cgutils.for_range_slice(builder, integer(0), count, integer(_RUN), inc=True) as (start, _):
        row.look_up(start)
        with cgutils.for_range_slice(builder, integer(0), integer(_RUN), integer(step), inc=True) as (behind, _):
            yield start, behind


def _store_in_turn(builder: Any, pixels: Sequence[Numbers], frames: Sequence[Any], warped: Sequence[_Warped]) -> None:
    """Write two pixels' channels one behind the other."""
    # In this order: each frame's pixel writes a fourth number that the next one writes over.
    for i, pixel in enumerate(pixels):
        for place, frame in zip((0, 3), frames, strict=True):
            pixel.on(place).store(chosen(builder, frame, frame, range(4 * i, 4 * i + 4)))
    for pixel, (colours, seen) in zip(pixels, warped, strict=True):
        both = chosen(builder, colours, seen, (*_COLOURS, 12, 8, 9, 10, 11, *[11] * 5))
        pixel.on(6).store_precisely(both, PRECISE - 6, SEEN - PRECISE)


def _store_at_once(builder: Any, pixels: Sequence[Numbers], frames: Sequence[Any], warped: Sequence[_Warped]) -> None:
    """Write two pixels as AMX reads them (`packing.SEEN_PLACES`), eight numbers at a time.

    Vectors of sixteen would take a third of the instructions' ports from all else that these loops do.
    """
    for i, (pixel, (colours, seen)) in enumerate(zip(pixels, warped, strict=True)):
        near = range(4 * i, 4 * i + 4)
        plain = chosen(builder, frames[0], frames[1], [*near, *(8 + lane for lane in near)])
        parts = [rounded(builder, plain), rounded(builder, colours), *in_two(builder, seen)]
        # Flow and mask are the first five numbers of what is seen.
        used = ir.Constant(parts[0].type, [-1] * 5 + [0] * 3)
        parts[2:] = [builder.and_(part, used) for part in parts[2:]]
        for place, part in enumerate(parts):
            pixel.on(8 * place).store_halves(part)


@intrinsic
def warp_row(
    _: Any, state: Any, state_at: Any, bias: Any, frames: Any, height: Any, width: Any, y: Any,
    maps: Any, maps_at: Any, channels: Any,
) -> Any:  # fmt: skip
    """Write what a block sees of the `width` pixels of row y (`packing.SEEN`).

    state: flow and mask of the pixels, 6 numbers each, `bias` still to be added. frames: 2 x height x width x 4, width
    a multiple of 16, height 2 at least. All flat; a pixel of maps has `channels` numbers.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        state, state_at, bias, frames, height, width, y, maps, maps_at, channels = arguments

        def numbers(argument: int, array: Any, at: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], array, at)

        out = numbers(7, maps, maps_at)
        row = _Row(builder, numbers(0, state, state_at), numbers(2, bias, integer(0)), numbers(3, frames, integer(0)),
                   (height, width), y)  # fmt: skip

        def write(store: _Store) -> None:
            with _runs(builder, row, width, _PIXELS) as (start, behind):
                x = builder.add(start, behind)
                pixels = [out.on(builder.mul(channels, builder.add(x, integer(i)))) for i in range(_PIXELS)]
                store(builder, pixels, [row.pixels(frame, x) for frame in (0, 1)], row.warped(start, behind))

        if not out.half:
            write(_store_in_turn)
            return context.get_dummy_value()
        with builder.if_else(builder.icmp_signed("==", channels, integer(SEEN_BY_AMX))) as (then, otherwise):
            with then:
                write(_store_at_once)
            with otherwise:
                write(_store_in_turn)
        return context.get_dummy_value()

    return types.void(state, place, bias, frames, place, place, place, maps, place, place), build


@intrinsic
def blend_row(
    _: Any, state: Any, state_at: Any, bias: Any, frames: Any, height: Any, width: Any, y: Any,
    weights: Any, count: Any, out: Any,
) -> Any:  # fmt: skip
    """Write `count` pixels of row y of both warped frames, mixed by `weights` of the previous one, to out 3 x width.

    Other arguments as for `warp_row`; up to 15 pixels more are read and written, so `count` is at most the width.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        state, state_at, bias, frames, height, width, y, weights, count, out = arguments

        def numbers(argument: int, array: Any, at: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], array, at)

        shares, colours = numbers(7, weights, integer(0)), numbers(9, out, integer(0))
        row = _Row(builder, numbers(0, state, state_at), numbers(2, bias, integer(0)), numbers(3, frames, integer(0)),
                   (height, width), y)  # fmt: skip
        with _runs(builder, row, count, 4) as (start, behind):
            x = builder.add(start, behind)
            mixed = row.mixed(start, behind, shares.on(x))
            for colour in range(3):
                plane = colours.on(builder.add(x, builder.mul(width, integer(colour))))
                plane.store(chosen(builder, mixed, mixed, range(colour, VECTOR, 4)))
        return context.get_dummy_value()

    return types.void(state, place, bias, frames, place, place, place, weights, place, out), build
