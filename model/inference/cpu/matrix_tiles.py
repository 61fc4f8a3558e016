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


def matrix_product(*, activate: bool, narrow: bool = False) -> Any:
    """Return a function of compiled loops: rows x (16 vectors) sums of products, `vectors` a key of ROWS.

    It takes rows and vectors; then flat arrays and, behind each, the place to begin at: the left matrix, from row to
    row, stretches that are summed, from one to the next, numbers in a stretch (even for bfloat16); the right one,
    packed (`model.inference.cpu.packing`); result, from row to row; activation. Where `activate` the sums begin with
    the biases and end with PReLU: activation holds all biases, and the slopes `slopes` numbers after them.
    Rows are written in order and some of them twice: what a row has beyond the result's, the next one overwrites.
    narrow: rows of eight sums in one vector, whose even lanes sum every other factor and the odd ones those between; a
    stretch is a multiple of 2 then, of 4 for bfloat16. Rows lie side by side in the result, activation has all twice.
    """

    @intrinsic
    def multiply(
        _: Any, rows: Any, vectors: Any, lhs: Any, at: Any, step: Any, stretches: Any, stretch_step: Any, count: Any,
        rhs: Any, rhs_at: Any, out: Any, out_at: Any, out_step: Any,
        activation: Any, activation_at: Any, slopes: Any,
    ) -> Any:  # fmt: skip
        signature = _signature(lhs, rhs, out, activation)

        def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            call = _Call(context, builder, signature, arguments, activate, narrow)
            for vectors in [1] if narrow else ROWS:
                with builder.if_then(builder.icmp_signed("==", call.vectors, integer(vectors))):
                    call.build(vectors)
            return context.get_dummy_value()

        return signature, build

    return multiply


def matrix_product_beside() -> Any:
    """Return such a function, activated, that writes the last eight sums of a row to a second array.

    Behind the others it takes that array, the place to begin at and from row to row.
    """

    @intrinsic
    def multiply(
        _: Any, rows: Any, vectors: Any, lhs: Any, at: Any, step: Any, stretches: Any, stretch_step: Any, count: Any,
        rhs: Any, rhs_at: Any, out: Any, out_at: Any, out_step: Any,
        activation: Any, activation_at: Any, slopes: Any, second: Any, second_at: Any, second_step: Any,
    ) -> Any:  # fmt: skip
        signature = _signature(lhs, rhs, out, activation, second)

        def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            call = _Call(context, builder, signature, arguments, activate=True, narrow=False)
            for vectors in ROWS:
                with builder.if_then(builder.icmp_signed("==", call.vectors, integer(vectors))):
                    call.build(vectors)
            return context.get_dummy_value()

        return signature, build

    return multiply


def _signature(lhs: Any, rhs: Any, out: Any, activation: Any, *second: Any) -> Any:
    place = types.intp
    further = [kind for array in second for kind in (array, place, place)]
    return types.void(
        place, place, lhs, place, place, place, place, place,
        rhs, place, out, place, place, activation, place, place, *further,
    )  # fmt: skip


class _Call:
    """Builds one call of a matrix product, tile by tile."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any], activate: bool, narrow: bool
    ) -> None:
        self._builder, self._activate, self._narrow = builder, activate, narrow
        (self._rows, self.vectors, _, lhs_at, self._step, self._stretches, self._stretch_step, self._count,
         _, rhs_at, _, out_at, self._out_step, _, activation_at, self._slopes, *second) = arguments  # fmt: skip

        def numbers(argument: int, place: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], arguments[argument], place)

        self._lhs, self._rhs = numbers(2, lhs_at), numbers(8, rhs_at)
        self._out, self._biases = numbers(10, out_at), numbers(13, activation_at)
        self._second = (numbers(16, second[1]), second[2]) if second else None
        #: Numbers of a lane, and of a factor.
        self._together = 2 if self._lhs.half else 1
        self._numbers = self._together * (2 if narrow else 1)

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
                begun = self._activate and not self._narrow
                builder.store(self._biases.on(VECTOR * v).load().value if begun else floats(0), sum_)
        start = self._lhs.on(builder.mul(first, self._step))
        with cgutils.for_range(builder, self._stretches) as loop:
            lhs = start.on(builder.mul(loop.index, self._stretch_step))
            steps = builder.sdiv(self._count, integer(self._numbers))
            weights_place = builder.mul(loop.index, builder.mul(steps, integer(VECTOR * self._together * vectors)))
            self._stretch(sums, steps, lhs, self._rhs.on(weights_place))
        out = self._out.on(builder.mul(first, self._out_step))
        values = [[Lanes(builder, builder.load(sum_)) for sum_ in row] for row in sums]
        if self._narrow:
            self._store_narrow([row[0] for row in values], out)
        else:
            self._store(values, first, out)

    def _stretch(self, sums: Sequence[Sequence[Any]], steps: Any, lhs: Numbers, rhs: Numbers) -> None:
        builder, lane = self._builder, VECTOR * self._together
        rows = [lhs.on(builder.mul(self._step, integer(row))) for row in range(len(sums))]
        with cgutils.for_range(builder, steps) as loop:
            near = rhs.on(builder.mul(loop.index, integer(lane * len(sums[0]))))
            weights = [near.on(lane * v).factors() for v in range(len(sums[0]))]
            place = builder.mul(loop.index, integer(self._numbers))
            for row, row_sums in zip(rows, sums, strict=True):
                factor = row.on(place).two_factors() if self._narrow else row.on(place).factor()
                for sum_, weight in zip(row_sums, weights, strict=True):
                    builder.store(lhs.add_products(builder.load(sum_), factor, weight), sum_)

    def _store(self, values: Sequence[Sequence[Lanes]], first: Any, out: Numbers) -> None:
        builder = self._builder
        for index, row in enumerate(values):
            there = out.on(builder.mul(self._out_step, integer(index)))
            for v, sums in enumerate(row):
                finished = self._finished(v, sums)
                there.on(VECTOR * v).store(finished.value)
                if self._second is not None and v == len(row) - 1:
                    second, step = self._second
                    second.on(builder.mul(step, builder.add(first, integer(index)))).store_upper(finished)

    def _store_narrow(self, values: Sequence[Lanes], out: Numbers) -> None:
        """Write two rows at a time; a lone one writes into the next one's place."""
        biases = self._biases.load() if self._activate else None
        for index in range(0, len(values), 2):
            sums = values[index].paired(values[min(index + 1, len(values) - 1)])
            finished = self._finished(0, sums if biases is None else sums + biases)
            out.on(self._builder.mul(self._out_step, integer(index))).store(finished.value)

    def _finished(self, v: int, sums: Lanes) -> Lanes:
        if not self._activate:
            return sums
        return sums.prelu(self._biases.on(self._builder.add(self._slopes, integer(VECTOR * v))).load())
