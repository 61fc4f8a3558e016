"""Reduction of what a block sees along a row of pixels, as a part of compiled loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from model.inference.cpu.lanes import VECTOR, Lanes, Numbers, cgutils, chosen, floats, in_two, integer, intrinsic, types
from model.inference.cpu.packing import PRECISE, SEEN, SEEN_BY_AMX


def _mean(pixels: Sequence[Numbers], first: int) -> Lanes:
    """Return the mean of four pixels' sixteen numbers from `first` on."""
    a, b, c, d = (pixel.on(first).load() for pixel in pixels)
    return ((a + b) + (c + d)) * Lanes(a.builder, floats(0.25))


@intrinsic
def reduce_seen(
    _: Any, full: Any, full_at: Any, row: Any, channels: Any, scale: Any, width: Any, small: Any, small_at: Any
) -> Any:
    """Write `width` pixels of what a block sees (`packing.SEEN`): the mean of 2x2 each, those of the next `scale` on.

    Both arrays are flat; `full` has `row` numbers from row to row, a pixel of either `channels`. What bfloat16 has
    twice is reduced as the one number that it is.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        full, full_at, row, channels, scale, width, small, small_at = arguments
        source = Numbers.of(context, builder, signature.args[0], full, full_at)
        out = Numbers.of(context, builder, signature.args[6], small, small_at)

        def write(reduce: Callable[[Any, Sequence[Numbers], Numbers], None]) -> None:
            with cgutils.for_range(builder, width) as loop:
                left = source.on(builder.mul(loop.index, builder.mul(scale, channels)))
                corners = [left, left.on(channels), left.on(row), left.on(row).on(channels)]
                reduce(builder, corners, out.on(builder.mul(loop.index, channels)))

        if not out.half:
            write(_reduce_in_turn)
            return context.get_dummy_value()
        with builder.if_else(builder.icmp_signed("==", channels, integer(SEEN_BY_AMX))) as (then, otherwise):
            with then:
                write(_reduce_at_once)
            with otherwise:
                write(_reduce_in_turn)
        return context.get_dummy_value()

    return types.void(full, place, place, place, place, place, small, place), build


def _reduce_in_turn(builder: Any, corners: Sequence[Numbers], pixel: Numbers) -> None:
    means = _mean(corners, 0)
    # In this order: vectors overlap.
    pixel.store(means.value)
    if not pixel.half:
        pixel.on(SEEN - VECTOR).store(_mean(corners, SEEN - VECTOR).value)
        return
    plain, precise = PRECISE - 6, SEEN - PRECISE
    means = _mean(corners, 6)
    # The rounded numbers lie behind the plain ones, and what they lack behind them.
    places = [VECTOR] * plain + list(range(plain + precise, VECTOR)) + [VECTOR] * precise
    lacks = Lanes(builder, chosen(builder, means.value, floats(0), places))
    pixel.on(6).store_precisely((means + lacks).value, plain, precise)


def _reduce_at_once(builder: Any, corners: Sequence[Numbers], pixel: Numbers) -> None:
    pixel.store(_mean(corners, 0).value)
    both = _mean(corners, VECTOR)
    swapped = Lanes(builder, chosen(builder, both.value, both.value, [*range(8, VECTOR), *range(8)]))
    nearest, lacks = in_two(builder, (both + swapped).value)
    pixel.on(VECTOR).store_halves(chosen(builder, nearest, lacks, [*range(8), *range(VECTOR, VECTOR + 8)]))
