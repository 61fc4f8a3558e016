"""The CPU path's float32 loops become NEON instructions of full width where they are compiled for arm64."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("numba")

import llvmlite.binding as llvm

from model.inference.cpu import frame_kernels, kernels
from model.inference.cpu.precision import Arithmetic

#: Loops, and how many instructions at least multiply and add four numbers: 6 rows of 16 sums, say.
_LOOPS = [
    ("load", 0), ("direct", 24), ("narrow", 24), ("inner", 24), ("join", 24), ("begin", 24), ("blend", 12),
    # These two take a second or more, and multiply as `direct` does.
    pytest.param("begin_beside", 24, marks=pytest.mark.slow), pytest.param("row_sums", 24, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.fixture(scope="module")
def machine() -> llvm.TargetMachine:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    return target.create_target_machine(cpu="neoverse-n1", features="+neon", opt=2)


@pytest.mark.parametrize(("name", "least"), _LOOPS)
def test_a_loop_multiplies_four_numbers_at_a_time(name: str, least: int, machine: llvm.TargetMachine) -> None:
    loop = frame_kernels.blend if name == "blend" else getattr(kernels.of(Arithmetic.FLOAT32), name)
    instructions = _compiled(loop, machine)
    assert "x86" not in instructions
    assert len(re.findall(r"\bfmla\s+v\d+\.4s", instructions)) >= least


def _compiled(loop: object, machine: llvm.TargetMachine) -> str:
    """What arm64's code generator makes of the instructions that this processor's was given."""
    (compiled,) = loop.overloads.values()  # type: ignore[attr-defined]
    module = str(compiled.library._get_module_for_linking())
    module = re.sub(r"target triple = .*", 'target triple = "aarch64-unknown-linux-gnu"', module)
    module = re.sub(r"target datalayout = .*", f'target datalayout = "{machine.target_data}"', module)
    module = re.sub(r'"target-(cpu|features)"="[^"]*"', "", module)
    # Counting an array's users is what remains of x86 in it.
    module = re.sub(r"= (tail )?call i8 @llvm\.x86\.atomic\.[^(]*\([^)]*\)", "= add i8 0, 0", module)
    assert "asm" not in module
    return str(machine.emit_assembly(llvm.parse_assembly(module)))
