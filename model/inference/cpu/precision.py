"""Whether this processor convolves in bfloat16: looked up once in a process."""

from __future__ import annotations

import functools

import torch


@functools.cache
def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 by AVX-512's instructions, and loops are compiled for it."""
    supports = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    if not supports():
        return False
    from model.inference.cpu.matrix_tiles import PANELS

    return len(PANELS) > 1
