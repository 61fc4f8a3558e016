"""Products of small matrices whose sums stay in registers, as a part of compiled loops.

A tile is a few rows of the left matrix times a few vectors of the right one. Sums are float32; of bfloat16 two factors
a sum are multiplied at once. The type of the right matrix says how: float32, uint16 (bfloat16 by AVX-512), or uint32,
pairs of bfloat16 in the order in which `model.inference.cpu.amx_tiles` multiplies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from model.inference.cpu.amx_tiles import AmxCall
from model.inference.cpu.lanes import FLOATS, VECTOR, Lanes, Numbers, cgutils, floats, integer, intrinsic, types
from model.inference.cpu.matrix_call import ProductCall
from model.inference.cpu.matrix_call import signature as _signature

cpu_target: Any = import_module("numba.core.registry").cpu_target


def _rows() -> dict[int, int]:
    """Return the rows of a tile, by its vectors: with these vectors and one factor they fill the registers."""
    # Of a processor named by NUMBA_CPU_NAME numba knows the name alone.
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    if name == "x86-64-v4" or "+avx512f" in features:
        return {1: 8, 2: 8, 3: 8, 5: 5}
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
            _call(context, builder, signature, arguments, activate=activate, narrow=narrow).build()
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
            _call(context, builder, signature, arguments, activate=True).build()
            return context.get_dummy_value()

        return signature, build

    return multiply


@intrinsic
def sum_of_products(
    _: Any, rows: Any, vectors: Any, lhs: Any, at: Any, step: Any, stretches: Any, stretch_step: Any, count: Any,
    rhs: Any, rhs_at: Any, out: Any, out_at: Any, out_step: Any, activation: Any, activation_at: Any, slopes: Any,
    other: Any, other_at: Any, other_step: Any, other_stretches: Any, other_stretch_step: Any, other_count: Any,
    other_rhs: Any, other_rhs_at: Any,
) -> Any:  # fmt: skip
    """As a product that is activated; to its sums those of a second one are added, whose matrices come last."""
    place = types.intp
    further = (other, place, place, place, place, place, other_rhs, place)
    signature = types.void(*_signature(lhs, rhs, out, activation).args, *further)

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        _call(context, builder, signature, arguments, activate=True, is_sum=True).build()
        return context.get_dummy_value()

    return signature, build


def _call(context: Any, builder: Any, signature: Any, arguments: Sequence[Any], **options: bool) -> ProductCall:
    kind = AmxCall if signature.args[8].dtype == types.uint32 else _VectorCall
    return kind(context, builder, signature, arguments, ROWS, **options)


class _VectorCall(ProductCall):
    """Builds a product by multiplications of vectors, tile by tile."""

    def build(self) -> None:
        """Build the product for each number of vectors that a panel may have."""
        for vectors in self._each_width():
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
                begun = self._activate and not self._narrow
                builder.store(self._biases.on(VECTOR * v).load().value if begun else floats(0), sum_)
        for factors in self._factors:
            start, together = factors.lhs.on(builder.mul(first, factors.step)), self._together
            with cgutils.for_range(builder, factors.stretches) as loop:
                lhs = start.on(builder.mul(loop.index, factors.stretch_step))
                up = builder.add(factors.count, integer(self._numbers - 1))
                steps = builder.sdiv(up, integer(self._numbers))
                weights_place = builder.mul(loop.index, builder.mul(steps, integer(VECTOR * together * vectors)))
                places = [lhs.on(builder.mul(factors.step, integer(row))) for row in range(rows)]
                self._stretch(sums, steps, places, factors.rhs.on(weights_place))
        out = self._out.on(builder.mul(first, self._out_step))
        values = [[Lanes(builder, builder.load(sum_)) for sum_ in row] for row in sums]
        if self._narrow:
            self._store_narrow([row[0] for row in values], out)
            return
        for index, row_values in enumerate(values):
            finished = [self._activated(v, lanes) for v, lanes in enumerate(row_values)]
            self._store(
                finished, out.on(builder.mul(self._out_step, integer(index))), builder.add(first, integer(index))
            )

    def _stretch(self, sums: Sequence[Sequence[Any]], steps: Any, rows: Sequence[Numbers], rhs: Numbers) -> None:
        builder, lane = self._builder, VECTOR * self._together
        with cgutils.for_range(builder, steps) as loop:
            near = rhs.on(builder.mul(loop.index, integer(lane * len(sums[0]))))
            weights = [near.on(lane * v).factors() for v in range(len(sums[0]))]
            place = builder.mul(loop.index, integer(self._numbers))
            for row, row_sums in zip(rows, sums, strict=True):
                factor = row.on(place).two_factors() if self._narrow else row.on(place).factor()
                for sum_, weight in zip(row_sums, weights, strict=True):
                    builder.store(row.add_products(builder.load(sum_), factor, weight), sum_)

    def _store_narrow(self, values: Sequence[Lanes], out: Numbers) -> None:
        """Write two rows at a time; a lone one writes into the next one's place."""
        for index in range(0, len(values), 2):
            sums = values[index].paired(values[min(index + 1, len(values) - 1)])
            finished = self._activated(0, sums + self._biases.load() if self._activate else sums)
            out.on(self._builder.mul(self._out_step, integer(index))).store(finished.value)

    @property
    def _together(self) -> int:
        """Return how many numbers a lane holds."""
        return 2 if self._factors[0].lhs.half else 1

    @property
    def _numbers(self) -> int:
        """Return how many numbers of a row are multiplied at once."""
        return self._together * (2 if self._narrow else 1)
