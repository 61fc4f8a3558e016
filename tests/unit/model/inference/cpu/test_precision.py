"""What a process may multiply in: AMX only with the processor's instructions and Linux's permission."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("numba")

from llvmlite import binding

from model.dmvfn.network import DMVFN
from model.inference.cpu import precision
from model.inference.cpu import runner as cpu_runner
from model.inference.cpu.precision import Arithmetic


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """Forget what the process was told, before and after."""
    precision.has_bfloat16.cache_clear()
    precision.has_amx.cache_clear()
    yield
    precision.has_bfloat16.cache_clear()
    precision.has_amx.cache_clear()


def _processor(monkeypatch: pytest.MonkeyPatch, *, features: tuple[str, ...], allows: bool) -> list[bool]:
    """Stand for a processor with vectors of 16 and bfloat16; returns how Linux answered each time it was asked."""
    answers: list[bool] = []

    def ask() -> bool:
        answers.append(allows)
        return allows

    monkeypatch.setattr("model.inference.cpu.matrix_tiles.PANELS", (5, 3, 2, 1))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_init_amx", ask)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: dict.fromkeys(features, True))
    return answers


def test_permission_is_asked_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = _processor(monkeypatch, features=("amx-tile", "amx-bf16"), allows=True)
    assert [precision.bfloat16() for _ in range(3)] == [Arithmetic.AMX] * 3
    assert precision.usable() == tuple(Arithmetic)
    assert answers == [True]


def test_where_linux_refuses_avx512_multiplies(monkeypatch: pytest.MonkeyPatch, tiny_network: DMVFN) -> None:
    answers = _processor(monkeypatch, features=("amx-tile", "amx-bf16"), allows=False)
    assert precision.usable() == (Arithmetic.FLOAT32, Arithmetic.AVX512)
    assert precision.bfloat16() is Arithmetic.AVX512
    assert answers == [False]


@pytest.mark.parametrize("features", [(), ("amx-tile",), ("amx-tile", "amx-int8")])
def test_a_processor_without_the_instructions_is_not_asked_for(
    features: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = _processor(monkeypatch, features=features, allows=True)
    assert precision.bfloat16() is Arithmetic.AVX512
    assert answers == []


def test_without_bfloat16_in_vectors_there_is_none(monkeypatch: pytest.MonkeyPatch, tiny_network: DMVFN) -> None:
    _processor(monkeypatch, features=("amx-tile", "amx-bf16"), allows=True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert precision.usable() == (Arithmetic.FLOAT32,)
    assert precision.bfloat16() is None
    with torch.autocast("cpu", torch.bfloat16):
        assert cpu_runner.of(tiny_network) is None
    assert cpu_runner.of(tiny_network) is not None
