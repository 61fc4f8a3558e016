"""What numba's language cannot say: vectors of sixteen numbers that stay in registers, and bfloat16.

Built as instructions while a compiled loop is compiled; a value is a `Lanes`, written with the usual operators. Numbers
in memory are float32, or bfloat16 as uint16: then AVX-512's instructions for it are used, so whoever compiles or calls
such a loop must have looked whether the processor has them (`model.inference.cpu.precision`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from llvmlite import ir

_numba: Any = import_module("numba")
types: Any = _numba.types
cgutils: Any = import_module("numba.core.cgutils")
#: Makes a function of compiled loops of one that returns its signature, and what builds its instructions.
intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = import_module("numba.extending").intrinsic
# The instructions are written as assembly, which compiles for an image's processors as well as for this one.
import_module("llvmlite.binding").initialize_native_asmparser()

#: Numbers in a vector.
VECTOR = 16

INT, FLOAT = ir.IntType(64), ir.FloatType()
FLOATS = ir.VectorType(FLOAT, VECTOR)
_WORD, _HALF = ir.IntType(32), ir.IntType(16)
_WORDS, _HALVES = ir.VectorType(_WORD, VECTOR), ir.VectorType(_HALF, VECTOR)
_LONGS = ir.VectorType(INT, VECTOR // 2)
_ROUND = ir.InlineAsm(ir.FunctionType(_HALVES, [FLOATS]), "vcvtneps2bf16 $1, $0", "=v,v")
_FOUR = ir.VectorType(FLOAT, 4)
# Four of its eight numbers are zero.
_ROUND_FOUR = ir.InlineAsm(ir.FunctionType(ir.VectorType(_HALF, 8), [_FOUR]), "vcvtneps2bf16 $1, $0", "=v,v")
_EIGHT = ir.VectorType(FLOAT, 8)
_ROUND_EIGHT = ir.InlineAsm(ir.FunctionType(ir.VectorType(_HALF, 8), [_EIGHT]), "vcvtneps2bf16 $1, $0", "=v,v")
_ADD_PRODUCTS = ir.InlineAsm(ir.FunctionType(FLOATS, [FLOATS, _WORDS, _WORDS]), "vdpbf16ps $3, $2, $0", "=v,0,v,v")
# Products and sums may be joined to one rounding; nothing else is assumed of numbers.
_FLAGS = ["contract"]


def integer(number: int) -> Any:
    """Return a constant place or count."""
    return ir.Constant(INT, number)


def floats(number: float) -> Any:
    """Return a vector of equal constants."""
    return ir.Constant(FLOATS, [number] * VECTOR)


def chosen(builder: Any, one: Any, other: Any, places: Sequence[int]) -> Any:
    """Build the choice of the numbers at `places` of vector `one` and of `other`, which follows it."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_WORD, len(places)), list(places)))


@dataclass(frozen=True, slots=True)
class Lanes:
    """Sixteen float32 in a register."""

    builder: Any
    value: Any

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fadd(self.value, other.value, flags=_FLAGS))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fsub(self.value, other.value, flags=_FLAGS))

    def __mul__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(self.value, other.value, flags=_FLAGS))

    def __rmul__(self, factor: int) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(floats(factor), self.value, flags=_FLAGS))

    def paired(self, other: Lanes) -> Lanes:
        """Return the sums of neighbours: eight of these, then eight of `other`."""
        even, odd = (
            Lanes(self.builder, chosen(self.builder, self.value, other.value, range(first, 2 * VECTOR, 2)))
            for first in (0, 1)
        )
        return even + odd

    def prelu(self, slopes: Lanes) -> Lanes:
        """Multiply what is not positive by `slopes`."""
        above = self.builder.fcmp_ordered(">", self.value, floats(0))
        return Lanes(self.builder, self.builder.select(above, self.value, (self * slopes).value))


def splat(builder: Any, number: Any) -> Lanes:
    """Return sixteen times the same float32."""
    nothing = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_WORD, 0))
    return Lanes(builder, chosen(builder, first, nothing, [0] * VECTOR))


@dataclass(frozen=True, slots=True)
class Numbers:
    """A place in an array of float32 or bfloat16, while instructions are built."""

    builder: Any
    address: Any
    half: bool

    @classmethod
    def of(cls, context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Numbers:
        """Return number `place` of an array of numba's type `kind`."""
        data = context.make_array(kind)(context, builder, array).data
        return cls(builder, builder.gep(data, [place]), kind.dtype == types.uint16)

    def on(self, numbers: Any) -> Numbers:
        """Return the place so many numbers further on."""
        steps = integer(numbers) if isinstance(numbers, int) else numbers
        return Numbers(self.builder, self.builder.gep(self.address, [steps]), self.half)

    def load(self) -> Lanes:
        """Read sixteen numbers."""
        if not self.half:
            return Lanes(self.builder, self._read(FLOATS))
        return Lanes(self.builder, _widened(self.builder, self._read(_HALVES)))

    def store(self, value: Any) -> None:
        """Write float32, one or a vector; to bfloat16 it is rounded to nearest, ties to even."""
        if self.half:
            value = rounded(self.builder, value)
        self._write(value)

    def store_halves(self, halves: Any) -> None:
        """Write numbers that are bfloat16 already."""
        self._write(halves)

    def store_precisely(self, value: Any, plain: int, precise: int) -> None:
        """Write the first `plain` + `precise` numbers, 8 to 12, of sixteen.

        As bfloat16 the nearest ones, and then what the `precise` ones lack: sixteen in all.
        """
        count = plain + precise
        if self.half:
            places = [*range(count), *range(VECTOR + plain, VECTOR + count)]
            self._write(chosen(self.builder, *in_two(self.builder, value), places))
        else:
            self.store_first(value, count)

    def store_first(self, value: Any, count: int) -> None:
        """Write the first `count` of sixteen float32, 8 to 12: the next ones are neither written nor waited for."""
        self._write(chosen(self.builder, value, value, range(8)))
        self.on(count - 4)._write(chosen(self.builder, value, value, range(count - 4, count)))

    def store_upper(self, lanes: Lanes) -> None:
        """Write the last eight of sixteen numbers, rounded likewise."""
        value = rounded(self.builder, lanes.value) if self.half else lanes.value
        self._write(chosen(self.builder, value, value, range(VECTOR // 2, VECTOR)))

    def factors(self) -> Any:
        """Read what sixteen sums are multiplied by in one instruction: sixteen numbers, or pairs of bfloat16."""
        return self._read(_WORDS if self.half else FLOATS)

    def factor(self) -> Any:
        """Read one number, or a pair of bfloat16, into all lanes."""
        return self._spread(_WORDS if self.half else FLOATS, VECTOR)

    def two_factors(self) -> Any:
        """Read two of them, one into the even lanes and one into the odd ones."""
        # As one number of 64 bits: a processor spreads these as it loads them.
        twice = self._spread(_LONGS, VECTOR // 2)
        return self.builder.bitcast(twice, _WORDS if self.half else FLOATS)

    def add_products(self, sums: Any, factor: Any, factors: Any) -> Any:
        """Add to `sums` what `factor` and `factors` of numbers like these read, multiplied."""
        if self.half:
            return self.builder.call(_ADD_PRODUCTS, [sums, factors, factor])
        return self.builder.fadd(sums, self.builder.fmul(factor, factors, flags=_FLAGS), flags=_FLAGS)

    def _spread(self, kind: Any, lanes: int) -> Any:
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, self._read(kind.element), ir.Constant(_WORD, 0))
        return chosen(self.builder, first, nothing, [0] * lanes)

    def _write(self, value: Any) -> None:
        address = self.builder.bitcast(self.address, value.type.as_pointer())
        self.builder.store(value, address, align=2 if self.half else 4)

    def _read(self, kind: Any) -> Any:
        address = self.builder.bitcast(self.address, kind.as_pointer())
        return self.builder.load(address, align=2 if self.half else 4)


def _widened(builder: Any, value: Any) -> Any:
    """Build float32 of bfloat16, one or a vector."""
    lanes = getattr(value.type, "count", 0)
    words, kind = (ir.VectorType(number, lanes) if lanes else number for number in (_WORD, FLOAT))
    shift = ir.Constant(words, [16] * lanes if lanes else 16)
    return builder.bitcast(builder.shl(builder.zext(value, words), shift), kind)


def rounded(builder: Any, value: Any) -> Any:
    """Build the rounding of float32, one, four, eight or sixteen, to bfloat16."""
    if value.type == FLOATS:
        return builder.call(_ROUND, [value])
    if value.type == _EIGHT:
        return builder.call(_ROUND_EIGHT, [value])
    if value.type == _FOUR:
        eight = builder.call(_ROUND_FOUR, [value])
        return chosen(builder, eight, eight, range(4))
    bits = builder.bitcast(value, _WORD)
    odd = builder.and_(builder.lshr(bits, ir.Constant(_WORD, 16)), ir.Constant(_WORD, 1))
    up = builder.add(builder.add(bits, ir.Constant(_WORD, 0x7FFF)), odd)
    return builder.trunc(builder.lshr(up, ir.Constant(_WORD, 16)), _HALF)


def in_two(builder: Any, value: Any) -> tuple[Any, Any]:
    """Build eight or sixteen float32 rounded to bfloat16, and what these lack, rounded likewise."""
    nearest = rounded(builder, value)
    return nearest, rounded(builder, builder.fsub(value, _widened(builder, nearest)))


@intrinsic
def widened(_: Any, value: Any) -> Any:
    """Read one number of maps as float32."""

    def widen(__: Any, builder: Any, ___: Any, arguments: Sequence[Any]) -> Any:
        if value != types.uint16:
            return arguments[0]
        return _widened(builder, arguments[0])

    return types.float32(value), widen


@intrinsic
def narrowed(_: Any, value: Any, maps: Any) -> Any:
    """Round float32 `value` to what `maps` holds: float32 itself, or bfloat16 (to nearest, ties to even)."""

    def narrow(__: Any, builder: Any, ___: Any, arguments: Sequence[Any]) -> Any:
        return rounded(builder, arguments[0]) if maps.dtype == types.uint16 else arguments[0]

    return maps.dtype(value, maps), narrow


@intrinsic
def copied(_: Any, source: Any, at: Any, count: Any, out: Any, out_at: Any) -> Any:
    """Copy `count` numbers of a flat array, from place `at` on, to `out`; the two parts must not overlap."""
    place = types.intp

    def copy(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        source, at, count, out, out_at = arguments
        places = (signature.args[3], out, out_at), (signature.args[0], source, at)
        addresses = [Numbers.of(context, builder, *place).address for place in places]
        cgutils.raw_memcpy(builder, *addresses, count, 2 if signature.args[0].dtype == types.uint16 else 4)
        return context.get_dummy_value()

    return types.void(source, place, place, out, place), copy
