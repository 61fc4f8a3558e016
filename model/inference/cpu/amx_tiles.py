"""Products of bfloat16 matrices by AMX: registers of up to sixteen rows of 64 bytes, as a part of compiled loops.

A register holds sixteen rows of the left matrix, 32 bfloat16 each, or of the right one sixteen pairs of factors for
sixteen sums; one instruction multiplies both and adds to sixteen by sixteen float32. Whoever calls such a loop must
have looked whether the process may use them (`model.inference.cpu.precision`). Instructions are assembly, as `lanes`
has them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from model.inference.cpu.lanes import FLOAT, FLOATS, INT, VECTOR, Numbers, cgutils, integer
from model.inference.cpu.matrix_call import Factors, ProductCall

#: Rows of a register, and bfloat16 in one of them.
ROWS, STEP = 16, 32
#: Sums of a narrow product's row: half a vector.
_NARROW = VECTOR // 2
#: Registers of the two matrices; those before hold sums.
_LEFT, _RIGHT = 6, 7
_FLOAT_BYTES, _HALF_BYTES = 4, 2


class AmxCall(ProductCall):
    """Builds a product by AMX, sixteen rows at a time; the last ones may be computed again."""

    def build(self) -> None:
        """Build the product for each number of vectors that a panel may have."""
        builder, lanes = self._builder, _NARROW if self._narrow else VECTOR
        # Registers of no rows are an error of the processor's; the loop over none does nothing.
        least = builder.select(builder.icmp_signed("<", self._rows, integer(1)), integer(1), self._rows)
        rows, step = self._least(least, integer(ROWS)), integer(STEP)
        for factors in self._factors:
            step = self._least(step, factors.count)
        self._configure(rows, step, lanes)
        last = builder.sub(self._rows, rows)
        for vectors in self._each_width():
            with cgutils.for_range_slice(builder, integer(0), self._rows, rows, inc=True) as (row, _):
                first = self._least(row, last)
                for v in range(vectors):
                    self._run(f"tilezero %tmm{v}")
                for factors in self._factors:
                    self._multiply(factors, first, step, vectors, lanes)
                if self._activate or self._narrow or self._out.half:
                    self._finish(first, rows, vectors, lanes)
                else:
                    self._store_sums(first, vectors)
        self._run("tilerelease")

    def _configure(self, rows: Any, step: Any, lanes: int) -> None:
        """Give registers their shapes: how many rows, and bytes of one; two numbers are multiplied at once."""
        builder = self._builder
        pairs, left = builder.lshr(step, integer(1)), builder.mul(step, integer(_HALF_BYTES))
        sums = lanes * _FLOAT_BYTES
        # As the instruction reads them: a palette; from byte 16 on a row's bytes (16 bits), from 48 on rows (8 bits).
        widths = builder.or_(builder.shl(left, integer(32)), integer(sums * 0x0001_0000_0001_0001))
        heights = builder.mul(rows, integer(0x0001_0101_0101_0101))
        words = [
            integer(1), integer(0), integer(sums * 0x0001_0001_0001_0001), widths,
            integer(0), integer(0), builder.or_(heights, builder.shl(pairs, integer(56))), integer(0),
        ]  # fmt: skip
        room = cgutils.alloca_once(builder, ir.ArrayType(INT, len(words)))
        for place, word in enumerate(words):
            builder.store(word, builder.gep(room, [integer(0), integer(place)]))
        self._run("ldtilecfg ($0)", builder.ptrtoint(room, INT))

    def _multiply(self, factors: Factors, first: Any, step: Any, vectors: int, lanes: int) -> None:
        """Add the products of rows from `first` on to the registers of sums."""
        builder = self._builder
        row_bytes = builder.mul(factors.step, integer(_HALF_BYTES))
        right_bytes = lanes * vectors * _FLOAT_BYTES
        steps = builder.udiv(builder.add(factors.count, builder.sub(step, integer(1))), step)
        last = builder.sub(factors.count, step)
        # Of each step's pairs there is a row in the right matrix.
        block = builder.mul(builder.lshr(step, integer(1)), integer(right_bytes))
        left_start = builder.ptrtoint(factors.lhs.on(builder.mul(first, factors.step)).address, INT)
        right_start = builder.ptrtoint(factors.rhs.address, INT)
        with cgutils.for_range(builder, factors.stretches) as stretch:
            left = builder.add(
                left_start, builder.mul(stretch.index, builder.mul(factors.stretch_step, integer(_HALF_BYTES)))
            )
            right = builder.add(right_start, builder.mul(stretch.index, builder.mul(steps, block)))
            with cgutils.for_range(builder, steps) as loop:
                # The last step reads again what the one before has read: its factors on the right are zero.
                place = self._least(builder.mul(loop.index, step), last)
                at = builder.add(left, builder.mul(place, integer(_HALF_BYTES)))
                self._run(f"tileloadd ($0,$1,1), %tmm{_LEFT}", at, row_bytes)
                weights = builder.add(right, builder.mul(loop.index, block))
                for v in range(vectors):
                    column = builder.add(weights, integer(v * VECTOR * _FLOAT_BYTES))
                    self._run(f"tileloadd ($0,$1,1), %tmm{_RIGHT}", column, integer(right_bytes))
                    self._run(f"tdpbf16ps %tmm{_RIGHT}, %tmm{_LEFT}, %tmm{v}")

    def _store_sums(self, first: Any, vectors: int) -> None:
        """Write sums as they are, the last vector first: what it has beyond a row, the first one overwrites."""
        out = self._builder.ptrtoint(self._out.on(self._builder.mul(first, self._out_step)).address, INT)
        row_bytes = self._builder.mul(self._out_step, integer(_FLOAT_BYTES))
        for v in reversed(range(vectors)):
            column = self._builder.add(out, integer(v * VECTOR * _FLOAT_BYTES))
            self._run(f"tilestored %tmm{v}, ($0,$1,1)", column, row_bytes)

    def _finish(self, first: Any, rows: Any, vectors: int, lanes: int) -> None:
        """Write sums by way of memory, with biases and PReLU; narrow ones two rows at a time."""
        builder, width = self._builder, vectors * lanes
        room = cgutils.alloca_once(builder, ir.ArrayType(FLOATS, ROWS * width // VECTOR))
        start = builder.ptrtoint(room, INT)
        for v in range(vectors):
            column = builder.add(start, integer(v * VECTOR * _FLOAT_BYTES))
            self._run(f"tilestored %tmm{v}, ($0,$1,1)", column, integer(width * _FLOAT_BYTES))
        sums = Numbers(builder, builder.bitcast(room, FLOAT.as_pointer()), half=False)
        biases = [self._biases.on(VECTOR * v).load() for v in range(vectors)] if self._activate else None
        with cgutils.for_range_slice(builder, integer(0), rows, integer(VECTOR // lanes), inc=True) as (row, _):
            here, index = sums.on(builder.mul(row, integer(width))), builder.add(first, row)
            values = [here.on(VECTOR * v).load() for v in range(vectors)]
            if biases is not None:
                values = [
                    self._activated(v, lanes + bias) for v, (lanes, bias) in enumerate(zip(values, biases, strict=True))
                ]
            self._store(values, self._out.on(builder.mul(index, self._out_step)), index)

    def _least(self, one: Any, other: Any) -> Any:
        return self._builder.select(self._builder.icmp_signed("<", one, other), one, other)

    def _run(self, text: str, *operands: Any) -> None:
        # The compiler knows nothing of these registers: side effects keep the instructions in order.
        kind = ir.FunctionType(ir.VoidType(), [INT] * len(operands))
        constraints = ",".join(["r"] * len(operands) + ["~{memory}"])
        self._builder.call(ir.InlineAsm(kind, text, constraints, side_effect=True), operands)
