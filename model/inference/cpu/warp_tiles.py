"""Warping of one pixel of both frames, four numbers at once, as a part of compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from model.inference.cpu.lanes import FLOAT, INT, Numbers, chosen, integer, intrinsic, types
from model.inference.cpu.packing import PRECISE, SEEN

_WORD = ir.IntType(32)
_FOUR, _EIGHT, _WORDS = ir.VectorType(FLOAT, 4), ir.VectorType(FLOAT, 8), ir.VectorType(_WORD, 4)
_ZEROS = ir.Constant(_FOUR, [0.0] * 4)
_FLAGS = ["contract"]


class _Quads:
    """Builds instructions on four numbers, and on two pixels of four."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def load(self, numbers: Numbers, kind: Any = _FOUR) -> Any:
        """Read four float32, or as many as `kind` has."""
        return self._builder.load(self._builder.bitcast(numbers.address, kind.as_pointer()), align=4)

    def of_axes(self, x: Any, y: Any) -> Any:
        """Return (x, y, x, y)."""
        quad = ir.Constant(ir.VectorType(x.type, 4), ir.Undefined)
        for place, value in enumerate((x, y)):
            quad = self._builder.insert_element(quad, value, ir.Constant(_WORD, place))
        return chosen(self._builder, quad, quad, (0, 1, 0, 1))

    def blend(self, near: Any, far: Any, share: Any) -> Any:
        """Return near + share * (far - near)."""
        more = self._builder.fmul(share, self._builder.fsub(far, near, flags=_FLAGS), flags=_FLAGS)
        return self._builder.fadd(near, more, flags=_FLAGS)

    def sample(self, image: Numbers, row: Any, shares: Any, axis: int) -> Any:
        """Sample the pixel of four numbers at `image`, one to its right and two `row` numbers on by two of `shares`."""
        above, below = self.load(image, _EIGHT), self.load(image.on(row), _EIGHT)
        sides = self.blend(above, below, chosen(self._builder, shares, shares, [axis + 1] * 8))
        west, east = (chosen(self._builder, sides, sides, range(first, first + 4)) for first in (0, 4))
        return self.blend(west, east, chosen(self._builder, shares, shares, [axis] * 4))

    def positions(self, flow: Any, x: Any, y: Any, width: Any, height: Any) -> tuple[list[Any], Any]:
        """Return where flow leads: the number of the pixel before, of each frame, and the parts of the way behind it.

        The border repeats: its last pixel is all of the way behind the one before it.
        """
        builder = self._builder
        here = self.of_axes(builder.sitofp(x, FLOAT), builder.sitofp(y, FLOAT))
        at = builder.fadd(flow, here)
        # Comparisons this way round send NaN to 0: broken weights may answer nonsense, not read elsewhere.
        at = builder.select(builder.fcmp_ordered(">", at, _ZEROS), at, _ZEROS)
        sides = self.of_axes(builder.trunc(width, _WORD), builder.trunc(height, _WORD))
        last = builder.sub(sides, ir.Constant(_WORDS, [1] * 4))
        end = builder.sitofp(last, _FOUR)
        at = builder.select(builder.fcmp_ordered("<", at, end), at, end)
        before, most = builder.fptosi(at, _WORDS), builder.sub(sides, ir.Constant(_WORDS, [2] * 4))
        before = builder.select(builder.icmp_signed("<", before, most), before, most)
        steps = self.of_axes(ir.Constant(_WORD, 1), builder.trunc(width, _WORD))
        places = builder.mul(before, steps)
        places = builder.add(places, chosen(builder, places, places, (1, 0, 3, 2)))
        pixels = [builder.zext(builder.extract_element(places, ir.Constant(_WORD, 2 * i)), INT) for i in range(2)]
        return pixels, builder.fsub(at, builder.sitofp(before, _FOUR))


@intrinsic
def warp_pixel(
    _: Any, state: Any, state_at: Any, bias: Any, frames: Any, height: Any, width: Any, x: Any, y: Any, first: Any,
    maps: Any, maps_at: Any,
) -> Any:  # fmt: skip
    """Write what a block sees of pixel (x, y) to `maps` (`packing.SEEN`), the frames' own 6 only where `first`.

    state: flow and mask of the pixel, `bias` still to be added. frames: 2 x height x width x 4, sides of 2 at least.
    All flat.
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
        pixels, shares = quads.positions(flow, x, y, width, height)
        row = builder.mul(width, integer(4))
        # In this order: each writes a fourth number that the next one writes over.
        for i, (image, pixel) in enumerate(zip(images, pixels, strict=True)):
            corner = image.on(builder.mul(pixel, integer(4)))
            out.on(6 + 3 * i).store(quads.sample(corner, row, shares, 2 * i))
        out.on(PRECISE).store_precisely(mask, SEEN - PRECISE)
        out.on(PRECISE + 1).store_precisely(flow, SEEN - PRECISE)
        return context.get_dummy_value()

    signature = types.void(state, place, bias, frames, place, place, place, place, types.boolean, maps, place)
    return signature, build
