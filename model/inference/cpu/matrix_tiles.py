"""Products of small matrices whose sums stay in registers, as a part of compiled loops.

A tile is a few rows of the left matrix times a few vectors of the right one. Sums are float32; of bfloat16 two factors
a sum are multiplied at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

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
            call = _Call(context, builder, signature, arguments, activate)
            for vectors in ROWS:
                with builder.if_then(builder.icmp_signed("==", call.vectors, integer(vectors))):
                    call.build(vectors)
            return context.get_dummy_value()

        return signature, build

    return multiply


class _Call:
    """Builds one call of a matrix product, tile by tile."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any], activate: bool) -> None:
        self._builder, self._activate = builder, activate
        (self._rows, self.vectors, _, lhs_at, self._step, self._stretches, self._stretch_step, self._count,
         _, rhs_at, _, out_at, self._out_step, _, activation_at, self._slopes) = arguments  # fmt: skip

        def numbers(argument: int, place: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], arguments[argument], place)

        self._lhs, self._rhs = numbers(2, lhs_at), numbers(8, rhs_at)
        self._out, self._biases = numbers(10, out_at), numbers(13, activation_at)

    def build(self, vectors: int) -> None:
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
        start = self._lhs.on(builder.mul(first, self._step))
        with cgutils.for_range(builder, self._stretches) as loop:
            lhs = start.on(builder.mul(loop.index, self._stretch_step))
            weights_place = builder.mul(loop.index, builder.mul(self._count, integer(VECTOR * vectors)))
            self._stretch(sums, lhs, self._rhs.on(weights_place))
        out = self._out.on(builder.mul(first, self._out_step))
        for index, row in enumerate(sums):
            there = out.on(builder.mul(self._out_step, integer(index)))
            for v, sum_ in enumerate(row):
                there.on(VECTOR * v).store(self._finished(v, Lanes(builder, builder.load(sum_))).value)

    def _stretch(self, sums: Sequence[Sequence[Any]], lhs: Numbers, rhs: Numbers) -> None:
        builder, numbers = self._builder, 2 if lhs.half else 1
        rows = [lhs.on(builder.mul(self._step, integer(row))) for row in range(len(sums))]
        with cgutils.for_range(builder, builder.sdiv(self._count, integer(numbers))) as loop:
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
