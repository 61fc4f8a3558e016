"""In which arithmetic the CPU path convolves, and which kinds this process may use: looked up once in it."""

from __future__ import annotations

import enum
import functools

import torch


class Arithmetic(enum.Enum):
    """Of which numbers maps and weights are, and which instructions multiply them; sums are float32."""

    FLOAT32 = "float32"
    AVX512 = "bfloat16 by AVX-512"
    AMX = "bfloat16 by AMX"

    @property
    def half(self) -> bool:
        """Tell whether maps are bfloat16, two bytes a number."""
        return self is not Arithmetic.FLOAT32


@functools.cache
def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 by AVX-512's instructions, and loops are compiled for it."""
    supports = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    if not supports():
        return False
    from model.inference.cpu.matrix_tiles import PANELS

    return len(PANELS) > 1


@functools.cache
def has_amx() -> bool:
    """Ask Linux for AMX's registers, once for all threads of the process; tell whether they may multiply bfloat16.

    Must run before a thread uses them, which would end the process. False where the processor, its hypervisor or a
    sandbox refuses, or maps in bfloat16 could not be read and written (`has_bfloat16`).
    """
    if not has_bfloat16() or not _processor_has_amx():
        return False
    ask = getattr(torch.cpu, "_init_amx", lambda: False)
    return bool(ask())


def _processor_has_amx() -> bool:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return bool(features.get("amx-tile") and features.get("amx-bf16"))


def usable() -> tuple[Arithmetic, ...]:
    """Return what this process may use, float32 first."""
    has = {Arithmetic.FLOAT32: True, Arithmetic.AVX512: has_bfloat16(), Arithmetic.AMX: has_amx()}
    return tuple(arithmetic for arithmetic, there in has.items() if there)


def bfloat16() -> Arithmetic | None:
    """Return the quickest in which this process multiplies bfloat16; None where only plain torch does."""
    quickest = usable()[-1]
    return quickest if quickest.half else None
