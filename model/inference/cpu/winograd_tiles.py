"""Winograd's F(4x4, 3x3) of one tile and sixteen channels, all in registers, as a part of compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.inference.cpu.lanes import Lanes, Numbers, integer, intrinsic, types


def _input(v: Sequence[Lanes]) -> list[Lanes]:
    """Transform six vectors of maps into six factors."""
    a, b, c, d, e, f = v
    return [
        4 * a - 5 * c + e,
        (d + e) - 4 * (b + c),
        (e - d) + 4 * (b - c),
        (e - c) + 2 * (d - b),
        (e - c) - 2 * (d - b),
        4 * b - 5 * d + f,
    ]


def _output(v: Sequence[Lanes]) -> list[Lanes]:
    """Transform six vectors of sums into four of maps."""
    a, b, c, d, e, f = v
    return [
        a + (b + c) + (d + e),
        (b - c) + 2 * (d - e),
        (b + c) + 4 * (d + e),
        (b - c) + 8 * (d - e) + f,
    ]


def _outputs(builder: Any, sums: Numbers, product: Any, biases: Numbers, slopes: Any) -> list[list[Lanes]]:
    """Transform 36 sums `product` numbers apart into rows of 4x4 outputs, with bias and PReLU."""
    bias, slope = biases.load(), biases.on(slopes).load()
    columns = [_output([sums.on(builder.mul(product, integer(6 * i + j))).load() for i in range(6)]) for j in range(6)]
    return [[(lanes + bias).prelu(slope) for lanes in _output([column[y] for column in columns])] for y in range(4)]


@intrinsic
def into_tile(_: Any, maps: Any, maps_at: Any, row: Any, pixel: Any, tiles: Any, tiles_at: Any, product: Any) -> Any:
    """Transform 6x6 pixels of `maps`, flat, `row` and `pixel` numbers apart, into 36 places `product` numbers apart."""
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        maps, at, row, pixel, tiles, tiles_at, product = arguments
        source = Numbers.of(context, builder, signature.args[0], maps, at)
        out = Numbers.of(context, builder, signature.args[4], tiles, tiles_at)
        columns = []
        for x in range(6):
            column = source.on(builder.mul(pixel, integer(x)))
            columns.append(_input([column.on(builder.mul(row, integer(y))).load() for y in range(6)]))
        for i in range(6):
            for j, lanes in enumerate(_input([column[i] for column in columns])):
                out.on(builder.mul(product, integer(6 * i + j))).store(lanes.value)
        return context.get_dummy_value()

    return types.void(maps, place, place, place, tiles, place, place), build


@intrinsic
def from_tile(
    _: Any, sums: Any, sums_at: Any, product: Any, activation: Any, bias_at: Any, slopes: Any,
    residual: Any, residual_at: Any, add: Any, maps: Any, maps_at: Any, row: Any, pixel: Any,
) -> Any:  # fmt: skip
    """Transform 36 sums `product` numbers apart into 4x4 pixels of `maps`: bias and PReLU, plus `residual` if `add`."""
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        sums, sums_at, product, activation, bias_at, slopes, residual, residual_at, add, maps, maps_at, row, pixel = (
            arguments
        )
        source = Numbers.of(context, builder, signature.args[0], sums, sums_at)
        biases = Numbers.of(context, builder, signature.args[3], activation, bias_at)
        more = Numbers.of(context, builder, signature.args[6], residual, residual_at)
        out = Numbers.of(context, builder, signature.args[9], maps, maps_at)
        pixels = []
        for y, row_lanes in enumerate(_outputs(builder, source, product, biases, slopes)):
            for x, lanes in enumerate(row_lanes):
                step = builder.add(builder.mul(row, integer(y)), builder.mul(pixel, integer(x)))
                pixels.append((step, lanes))
        with builder.if_else(add) as (then, otherwise):
            with then:
                for step, lanes in pixels:
                    out.on(step).store((lanes + more.on(step).load()).value)
            with otherwise:
                for step, lanes in pixels:
                    out.on(step).store(lanes.value)
        return context.get_dummy_value()

    return (
        types.void(
            sums, place, place, activation, place, place, residual, place, types.boolean, maps, place, place, place
        ),
        build,
    )


@intrinsic
def sum_tile(
    _: Any, products: Any, products_at: Any, product: Any, activation: Any, bias_at: Any, slopes: Any,
    sums: Any, sums_at: Any, row: Any, part: Any, is_first: Any,
) -> Any:  # fmt: skip
    """Add the 4x4 outputs of 36 products `product` numbers apart to the sums of their rows, `row` numbers apart.

    The last of a row is written `2 * part` numbers behind its sum; the first, where the tile `is_first`, `part` behind.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        products, products_at, product, activation, bias_at, slopes, sums, sums_at, row, part, is_first = arguments
        source = Numbers.of(context, builder, signature.args[0], products, products_at)
        biases = Numbers.of(context, builder, signature.args[3], activation, bias_at)
        out = Numbers.of(context, builder, signature.args[6], sums, sums_at)
        outputs = _outputs(builder, source, product, biases, slopes)
        rows = [out.on(builder.mul(row, integer(y))) for y in range(4)]
        for place_of_row, (a, b, c, d) in zip(rows, outputs, strict=True):
            place_of_row.store((place_of_row.load() + ((a + b) + (c + d))).value)
            place_of_row.on(builder.mul(part, integer(2))).store(d.value)
        with builder.if_then(is_first):
            for place_of_row, lanes in zip(rows, outputs, strict=True):
                place_of_row.on(part).store(lanes[0].value)
        return context.get_dummy_value()

    return (
        types.void(products, place, place, activation, place, place, sums, place, place, place, types.boolean),
        build,
    )
