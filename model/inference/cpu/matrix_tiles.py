"""Products of small matrices whose sums stay in registers, as a part of compiled loops.

A tile is a few rows of the left matrix times a few vectors of the right one. Sums are float32; of bfloat16 two factors
a sum are multiplied at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from model.inference.cpu.lanes import FLOATS, VECTOR, Lanes, Numbers, cgutils, floats, integer, intrinsic, types

cpu_target: Any = import_module("numba.core.registry").cpu_target


def _rows() -> dict[int, int]:
    """Return the rows of a tile, by its vectors: with these vectors and one factor they fill the registers."""
    # Of a processor named by NUMBA_CPU_NAME numba knows the name alone.
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    if name == "x86-64-v4" or "+avx512f" in features:
        return {1: 12, 2: 10, 3: 8, 5: 5}
    # Vectors are halves of 8 there, or quarters of 4; x86 has 16 registers, arm64 32.
    return {1: 6}


ROWS = _rows()
#: Vectors that a panel of the right matrix may have, most first.
PANELS = tuple(sorted(ROWS, reverse=True))


def matrix_product(*, activate: bool) -> Any:
    """Return a function of compiled loops: rows x (16 vectors) sums of products, `vectors` a key of ROWS.

    It takes rows and vectors; then flat arrays and, behind each, the place to begin at: the left matrix, from row to
    row, stretches that are summed, from one to the next, numbers in a stretch (even for bfloat16); the right one,
    packed (`model.inference.cpu.packing`); result, from row to row; activation. Where `activate` the sums begin with
    the biases and end with PReLU: activation holds all biases, and the slopes `slopes` numbers after them.
    Rows are written in order and some of them twice: what a row has beyond the result's, the next one overwrites.
    """

    @intrinsic
    def multiply(
        _: Any, rows: Any, vectors: Any, lhs: Any, at: Any, step: Any, stretches: Any, stretch_step: Any, count: Any,
        rhs: Any, rhs_at: Any, out: Any, out_at: Any, out_step: Any,
        activation: Any, activation_at: Any, slopes: Any,
    ) -> Any:  # fmt: skip
        place = types.intp
        signature = types.void(
            place, place, lhs, place, place, place, place, place,
            rhs, place, out, place, place, activation, place, place,
        )  # fmt: skip

        def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            _Call(context, builder, signature, arguments, factors=1, activate=activate).build()
            return context.get_dummy_value()

        return signature, build

    return multiply


@intrinsic
def sum_of_products(
    _: Any, rows: Any, vectors: Any,
    lhs: Any, at: Any, step: Any, stretches: Any, stretch_step: Any, count: Any, rhs: Any, rhs_at: Any,
    other: Any, other_at: Any, other_step: Any, other_stretches: Any, other_stretch_step: Any, other_count: Any,
    other_rhs: Any, other_rhs_at: Any,
    out: Any, out_at: Any, out_step: Any, activation: Any, activation_at: Any, slopes: Any,
) -> Any:  # fmt: skip
    """As `matrix_product` with an activation, of two products of so many rows and vectors, added up."""
    place = types.intp
    signature = types.void(
        place, place, lhs, place, place, place, place, place, rhs, place,
        other, place, place, place, place, place, other_rhs, place,
        out, place, place, activation, place, place,
    )  # fmt: skip

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        _Call(context, builder, signature, arguments, factors=2, activate=True).build()
        return context.get_dummy_value()

    return signature, build


class _Factors(NamedTuple):
    """The two matrices of a product, and how the left one lies."""

    lhs: Numbers
    rhs: Numbers
    step: Any
    stretches: Any
    stretch_step: Any
    count: Any


class _Call:
    """Builds one call: the sum of one matrix product or several, tile by tile."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any], *, factors: int, activate: bool
    ) -> None:
        self._builder, self._activate = builder, activate
        self._rows, self._vectors = arguments[:2]

        def numbers(argument: int) -> Numbers:
            """Return the place in an array that the argument behind it says."""
            array, place = arguments[argument : argument + 2]
            return Numbers.of(context, builder, signature.args[argument], array, place)

        self._factors = [
            _Factors(numbers(first), numbers(first + 6), *arguments[first + 2 : first + 6])
            for first in range(2, 2 + 8 * factors, 8)
        ]
        rest = 2 + 8 * factors
        self._out, self._out_step = numbers(rest), arguments[rest + 2]
        self._biases, self._slopes = numbers(rest + 3), arguments[rest + 5]

    def build(self) -> None:
        """Build the call for every number of vectors."""
        for vectors in ROWS:
            with self._builder.if_then(self._builder.icmp_signed("==", self._vectors, integer(vectors))):
                self._build(vectors)

    def _build(self, vectors: int) -> None:
        """Build the loop over rows, for this number of vectors; the last tile may compute rows again."""
        builder, many = self._builder, integer(ROWS[vectors])
        with builder.if_else(builder.icmp_signed(">=", self._rows, many)) as (then, otherwise):
            with then:
                last = builder.sub(self._rows, many)
                with cgutils.for_range_slice(builder, integer(0), self._rows, many, inc=True) as (row, _):
                    beyond = builder.icmp_signed(">", row, last)
                    self._tile(builder.select(beyond, last, row), ROWS[vectors], vectors)
            with otherwise, cgutils.for_range(builder, self._rows) as loop:
                self._tile(loop.index, 1, vectors)

    def _tile(self, first: Any, rows: int, vectors: int) -> None:
        builder = self._builder
        sums = [[cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)] for _ in range(rows)]
        for row in sums:
            for v, sum_ in enumerate(row):
                builder.store(self._biases.on(VECTOR * v).load().value if self._activate else floats(0), sum_)
        for factors in self._factors:
            start = factors.lhs.on(builder.mul(first, factors.step))
            with cgutils.for_range(builder, factors.stretches) as loop:
                lhs = start.on(builder.mul(loop.index, factors.stretch_step))
                weights_place = builder.mul(loop.index, builder.mul(factors.count, integer(VECTOR * vectors)))
                self._stretch(sums, lhs, factors.rhs.on(weights_place), factors)
        out = self._out.on(builder.mul(first, self._out_step))
        for index, row in enumerate(sums):
            there = out.on(builder.mul(self._out_step, integer(index)))
            for v, sum_ in enumerate(row):
                there.on(VECTOR * v).store(self._finished(v, Lanes(builder, builder.load(sum_))).value)

    def _stretch(self, sums: Sequence[Sequence[Any]], lhs: Numbers, rhs: Numbers, factors: _Factors) -> None:
        builder, numbers = self._builder, 2 if lhs.half else 1
        rows = [lhs.on(builder.mul(factors.step, integer(row))) for row in range(len(sums))]
        with cgutils.for_range(builder, builder.sdiv(factors.count, integer(numbers))) as loop:
            near = rhs.on(builder.mul(loop.index, integer(VECTOR * numbers * len(sums[0]))))
            weights = [near.on(VECTOR * numbers * v).factors() for v in range(len(sums[0]))]
            place = builder.mul(loop.index, integer(numbers))
            for row, row_sums in zip(rows, sums, strict=True):
                factor = row.on(place).factor()
                for sum_, weight in zip(row_sums, weights, strict=True):
                    builder.store(lhs.add_products(builder.load(sum_), factor, weight), sum_)

    def _finished(self, v: int, sums: Lanes) -> Lanes:
        if not self._activate:
            return sums
        return sums.prelu(self._biases.on(self._builder.add(self._slopes, integer(VECTOR * v))).load())
