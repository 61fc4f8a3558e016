"""The CPU path's compiled loops for maps of float32, or of bfloat16: each set is compiled when first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from model.inference.cpu import convolution_kernels, frame_kernels, join_kernels, path_kernels, routing_kernels
from model.inference.cpu.compiler import F1, F2, F3, F4, FRAME, kernel
from model.inference.cpu.precision import Arithmetic

Loop = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Kernels:
    """Loops for maps of one type of numbers; their docstrings are those of the modules they come from."""

    load: Loop
    begin: Loop  #: what is convolved in float32
    begin_beside: Loop  #: the second answer in float32
    direct: Loop
    narrow: Loop  #: `direct_narrow` of float32
    inner: Loop  #: `tiled`; by AMX `direct_added`
    tiled_wide: Loop  #: `tiled`, factors and answer in float32
    row_sums: Loop  #: weights in float32
    join: Loop


#: Types of maps and of weights.
NUMBERS = {
    Arithmetic.FLOAT32: ("float32", "float32"),
    Arithmetic.AVX512: ("uint16", "uint16"),
    Arithmetic.AMX: ("uint16", "uint32"),
}


@functools.cache
def of(arithmetic: Arithmetic) -> Kernels:
    """Return the loops for this arithmetic; load or compile them at first."""
    number, weights = NUMBERS[arithmetic]
    one, two, three = f"{weights}[::1]", f"{number}[:,::1]", f"{number}[:,:,::1]"
    place = "int64"
    places = f"{place}, {place}, {place}"
    wide = kernel(f"{three}, {F1}, {F1}, {three}, boolean, {places}, {F2}, {F2}, {F3}")(convolution_kernels.tiled)
    tiled = f"{three}, {one}, {F1}, {three}, boolean, {places}, {two}, {F2}, {three}"
    added = f"{three}, {one}, {F1}, {three}, boolean, {place}, {place}, {three}"
    inner: dict[Arithmetic, Callable[[], Loop]] = {
        Arithmetic.FLOAT32: lambda: wide,
        Arithmetic.AVX512: lambda: kernel(tiled)(convolution_kernels.tiled),
        Arithmetic.AMX: lambda: kernel(added)(convolution_kernels.direct_added),
    }
    direct = f"{three}, {one}, {F1}, {places}, {three}"
    seen = f"{F3}, {F1}, {F4}, {three}, boolean, {number}[:,:,:,::1], {one}, {F1}, {place}, {place}"
    return Kernels(
        load=kernel(f"{FRAME}, {FRAME}, {place}, {place}, {F4}, {three}")(frame_kernels.load),
        begin=kernel(f"{seen}, {F3}, {place}, {three}")(path_kernels.begin),
        begin_beside=kernel(f"{seen}, {three}, {F3}")(path_kernels.begin_beside),
        direct=kernel(direct)(convolution_kernels.direct),
        narrow=kernel(f"{F3}, {F1}, {F1}, {places}, {three}")(convolution_kernels.direct_narrow),
        inner=inner[arithmetic](),
        tiled_wide=wide,
        row_sums=kernel(f"{three}, {F1}, {F1}, {place}, {F2}, {F2}, {F2}")(routing_kernels.row_sums),
        join=kernel(
            f"{F3}, {F1}, {place}, {place}, {place}, {three}, {one}, {place}, {place}, {F2}, {F3}",
        )(join_kernels.join),
    )
