"""Warping of one pixel of both frames, four numbers at once, as a part of compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from model.inference.cpu.lanes import FLOAT, INT, Numbers, integer, intrinsic, types

_WORD = ir.IntType(32)
_FOUR, _WORDS = ir.VectorType(FLOAT, 4), ir.VectorType(_WORD, 4)
_ZEROS = ir.Constant(_FOUR, [0.0] * 4)


class _Quads:
    """Builds instructions on four numbers."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def load(self, numbers: Numbers) -> Any:
        """Read four float32."""
        return self._builder.load(self._builder.bitcast(numbers.address, _FOUR.as_pointer()), align=4)

    def of(self, values: Sequence[Any], kind: Any) -> Any:
        """Join four numbers."""
        quad = ir.Constant(kind, ir.Undefined)
        for place, value in enumerate(values):
            quad = self._builder.insert_element(quad, value, ir.Constant(_WORD, place))
        return quad

    def spread(self, quad: Any, place: int) -> Any:
        """Return four times the number at `place`."""
        return self._builder.shuffle_vector(quad, quad, ir.Constant(_WORDS, [place] * 4))

    def blend(self, near: Any, far: Any, share: Any) -> Any:
        """Return near + share * (far - near)."""
        flags = ["contract"]
        more = self._builder.fmul(share, self._builder.fsub(far, near, flags=flags), flags=flags)
        return self._builder.fadd(near, more, flags=flags)

    def sample(self, image: Numbers, row: Any, places: Sequence[Any], shares: Sequence[Any]) -> Any:
        """Sample four numbers a pixel of `image`, rows of `row` pixels, between west, north, east and south."""
        west, north, east, south = (self._builder.sext(place, INT) for place in places)

        def pixel(y: Any, x: Any) -> Any:
            at = self._builder.add(self._builder.mul(y, row), x)
            return self.load(image.on(self._builder.shl(at, integer(2))))

        above = self.blend(pixel(north, west), pixel(north, east), shares[0])
        below = self.blend(pixel(south, west), pixel(south, east), shares[0])
        return self.blend(above, below, shares[1])

    def positions(self, flow: Any, x: Any, y: Any, width: Any, height: Any) -> tuple[Any, Any, Any]:
        """Return where flow leads: places before and behind, and the part of the way between; the border repeats."""
        builder = self._builder
        here = self.of([builder.sitofp(value, FLOAT) for value in (x, y, x, y)], _FOUR)
        at = builder.fadd(flow, here)
        # Comparisons this way round send NaN to 0: broken weights may answer nonsense, not read elsewhere.
        at = builder.select(builder.fcmp_ordered(">", at, _ZEROS), at, _ZEROS)
        sides = [builder.trunc(builder.sub(side, integer(1)), _WORD) for side in (width, height, width, height)]
        last = self.of(sides, _WORDS)
        end = builder.sitofp(last, _FOUR)
        at = builder.select(builder.fcmp_ordered("<", at, end), at, end)
        before = builder.fptosi(at, _WORDS)
        behind = builder.add(before, ir.Constant(_WORDS, [1] * 4))
        behind = builder.select(builder.icmp_signed("<", behind, last), behind, last)
        return before, behind, builder.fsub(at, builder.sitofp(before, _FOUR))


@intrinsic
def warp_pixel(
    _: Any, state: Any, state_at: Any, bias: Any, frames: Any, height: Any, width: Any, x: Any, y: Any, first: Any,
    maps: Any, maps_at: Any,
) -> Any:  # fmt: skip
    """Write what a block sees of pixel (x, y): 17 numbers of `maps`, the frames' own 6 only where `first`.

    state: flow and mask of the pixel, `bias` still to be added. frames: 2 x height x width x 4. All flat.
    """
    place = types.intp

    def build(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        state, state_at, bias, frames, height, width, x, y, first, maps, maps_at = arguments
        values = Numbers.of(context, builder, signature.args[0], state, state_at)
        biases = Numbers.of(context, builder, signature.args[2], bias, integer(0))
        size = builder.mul(builder.mul(height, width), integer(4))
        images = [Numbers.of(context, builder, signature.args[3], frames, start) for start in (integer(0), size)]
        out = Numbers.of(context, builder, signature.args[9], maps, maps_at)
        quads = _Quads(builder)
        with builder.if_then(first):
            at = builder.mul(builder.add(builder.mul(y, width), x), integer(4))
            for i, image in enumerate(images):
                out.on(3 * i).store(quads.load(image.on(at)))
        flow = builder.fadd(quads.load(values), quads.load(biases))
        mask = builder.fadd(builder.load(values.on(4).address), builder.load(biases.on(4).address))
        before, behind, shares = quads.positions(flow, x, y, width, height)
        # In this order: each writes a fourth number that the next one writes over.
        for i, image in enumerate(images):
            places = [builder.extract_element(quad, ir.Constant(_WORD, 2 * i + axis))
                      for quad in (before, behind) for axis in (0, 1)]  # fmt: skip
            parts = [quads.spread(shares, 2 * i + axis) for axis in (0, 1)]
            out.on(6 + 3 * i).store(quads.sample(image, width, places, parts))
        out.on(12).store(mask)
        out.on(13).store(flow)
        return context.get_dummy_value()

    signature = types.void(state, place, bias, frames, place, place, place, place, types.boolean, maps, place)
    return signature, build
