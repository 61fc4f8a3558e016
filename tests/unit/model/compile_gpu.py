"""Compiles every loop of the GPU path for several types and generations of GPUs, without one.

python -m tests.unit.model.compile_gpu        prints loop, type, compute capability, bytes of machine code
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

#: Types of the blocks and compute capabilities: Turing, Ampere, Hopper, Blackwell.
TARGETS = (("fp16", 75), ("fp16", 80), ("fp32", 90), ("fp16", 90), ("bf16", 90), ("fp16", 120))
#: Every argument of each loop, in order: a type, or the number it is compiled for. "*" stands for the blocks' type.
LOOPS: dict[str, dict[str, str | int | bool]] = {
    "_advance": {"frames": "*fp32", "increment": "*", "state": "*fp32", "inputs": "*", "height": "i32", "width": "i32"}
    | {"BLOCK": 128},
    "_finish": {"frames": "*fp32", "increment": "*", "state": "*fp32", "out": "*fp32", "height": "i32", "width": "i32"}
    | {"BLOCK": 128},
    "_activate": {"maps": "*", "bias": "*fp32", "slopes": "*fp32", "residual": "*", "count": "i32"}
    | {"CHANNELS": 80, "ADD": True, "BLOCK": 512},
}


def main() -> int:
    """Compile, print."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model.inference.cuda import kernels as cuda_kernels

    for name, arguments in LOOPS.items():
        numbers = {key: value for key, value in arguments.items() if not isinstance(value, str)}
        for kind, capability in TARGETS:
            types: dict[str, Any] = {
                key: "constexpr" if key in numbers else f"*{kind}" if value == "*" else value
                for key, value in arguments.items()
            }
            source = ASTSource(fn=getattr(cuda_kernels, name), signature=types, constexprs=numbers)
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            print(name, kind, capability, len(made.asm["cubin"]))
    return 0


if __name__ == "__main__":
    # Triton keeps what it compiled: this must compile.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        raise SystemExit(main())
