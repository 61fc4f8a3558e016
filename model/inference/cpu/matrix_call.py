"""One call of a matrix product inside a compiled loop: its arguments, and what is done with its sums.

How it is multiplied is `model.inference.cpu.matrix_tiles`' and `model.inference.cpu.amx_tiles`' business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from model.inference.cpu.lanes import VECTOR, Lanes, Numbers, integer, types


def signature(lhs: Any, rhs: Any, out: Any, activation: Any, *second: Any) -> Any:
    """Return numba's signature of a product; `second`: of a second array of results, if there is one."""
    place = types.intp
    further = [kind for array in second for kind in (array, place, place)]
    return types.void(
        place, place, lhs, place, place, place, place, place,
        rhs, place, out, place, place, activation, place, place, *further,
    )  # fmt: skip


class Factors(NamedTuple):
    """The two matrices of a product, and how the left one lies."""

    lhs: Numbers
    rhs: Numbers
    step: Any
    stretches: Any
    stretch_step: Any
    count: Any


class ProductCall:
    """One call of a matrix product, or of the sum of two; subclasses build its instructions.

    widths: the numbers of vectors that a panel of the right matrix may have.
    """

    def __init__(
        self,
        context: Any,
        builder: Any,
        signature: Any,
        arguments: Sequence[Any],
        widths: Iterable[int],
        *,
        activate: bool,
        narrow: bool = False,
        is_sum: bool = False,
    ) -> None:
        self._builder, self._activate, self._narrow = builder, activate, narrow
        self._widths = [1] if narrow else list(widths)
        (self._rows, self._vectors, _, lhs_at, step, stretches, stretch_step, count,
         _, rhs_at, _, out_at, self._out_step, _, activation_at, self._slopes, *rest) = arguments  # fmt: skip

        def numbers(argument: int, place: Any) -> Numbers:
            return Numbers.of(context, builder, signature.args[argument], arguments[argument], place)

        self._factors = [Factors(numbers(2, lhs_at), numbers(8, rhs_at), step, stretches, stretch_step, count)]
        if is_sum:
            self._factors.append(Factors(numbers(16, rest[1]), numbers(22, rest[7]), *rest[2:6]))
        self._out, self._biases = numbers(10, out_at), numbers(13, activation_at)
        self._second = (numbers(16, rest[1]), rest[2]) if rest and not is_sum else None

    def build(self) -> None:
        """Build the product for each number of vectors that a panel may have."""
        raise NotImplementedError

    def _each_width(self) -> Iterator[int]:
        """Yield each number of vectors while what is built runs for calls of that number only."""
        for vectors in self._widths:
            with self._builder.if_then(self._builder.icmp_signed("==", self._vectors, integer(vectors))):
                yield vectors

    def _activated(self, v: int, sums: Lanes) -> Lanes:
        """Apply PReLU to vector `v` of a row, if the product is activated."""
        if not self._activate:
            return sums
        return sums.prelu(self._biases.on(self._builder.add(self._slopes, integer(VECTOR * v))).load())

    def _store(self, row: Sequence[Lanes], out: Numbers, index: Any) -> None:
        """Write the finished sums of row `index` at `out`, and the last eight to the second array if there is one."""
        for v, lanes in enumerate(row):
            out.on(VECTOR * v).store(lanes.value)
        if self._second is not None:
            second, step = self._second
            second.on(self._builder.mul(step, index)).store_upper(row[-1])
