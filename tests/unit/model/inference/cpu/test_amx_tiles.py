"""Products by AMX equal numpy's for every shape, by several threads at once; what they read lies within the rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from model.inference.cpu import amx_tiles, packing, precision
from model.inference.cpu.matrix_tiles import PANELS, matrix_product, sum_of_products
from model.inference.cpu.precision import Arithmetic

pytestmark = pytest.mark.skipif(not precision.has_amx(), reason="no amx_bf16, or no permission for it")

numba: Any = import_module("numba")
Loop = TypeVar("Loop", bound=Callable[..., None])


def _compiled(loop: Loop) -> Loop:
    # Not kept: numba would not know that the products have changed.
    return cast("Loop", numba.njit(nogil=True)(loop))


_plain, _activated = matrix_product(activate=False), matrix_product(activate=True)
_narrow = matrix_product(activate=True, narrow=True)


@_compiled
def _multiply(kind: int, rows: int, vectors: int, lhs: Any, count: int, rhs: Any, out: Any, row: int, act: Any) -> None:
    """Multiply rows that lie one after the other, of one stretch, as loops do: plainly, activated or to eight sums."""
    slopes = act.shape[0] // 2
    if kind == 0:
        _plain(rows, vectors, lhs, 0, count, 1, 0, count, rhs, 0, out, 0, row, act, 0, slopes)
    elif kind == 1:
        _activated(rows, vectors, lhs, 0, count, 1, 0, count, rhs, 0, out, 0, row, act, 0, slopes)
    else:
        _narrow(rows, vectors, lhs, 0, count, 1, 0, count, rhs, 0, out, 0, row, act, 0, slopes)


@_compiled
def _sum(
    rows: int, vectors: int, lhs: Any, count: int, rhs: Any, other: Any, more: int, last: Any, out: Any, act: Any
) -> None:
    """Add two products whose left matrices have rows of two stretches of `count` and of one of `more`."""
    width = act.shape[0] // 2
    sum_of_products(
        rows, vectors, lhs, 0, count, 2, rows * count, count, rhs, 0, out, 0, width, act, 0, width,
        other, 0, more, 1, 0, more, last, 0,
    )  # fmt: skip


def _numbers(*shape: int) -> torch.Tensor:
    """Random numbers that bfloat16 has."""
    return torch.randn(shape).bfloat16().float()


def _left(*matrices: torch.Tensor) -> np.ndarray:
    """Rows as bfloat16 in one array; whatever lies behind them is no number, so that nobody may multiply it."""
    flat = torch.cat([*(matrix.flatten() for matrix in matrices), torch.full((64,), float("nan"))])
    return packing.numbers(flat, True)


def _prelu(sums: torch.Tensor, biases: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    added = sums + biases
    return torch.where(added > 0, added, added * slopes)


@pytest.mark.parametrize("count", [2, 4, 16, 24, 30, 32, 34, 66, 132, 160])
@pytest.mark.parametrize("outputs", [16, 32, 48, 80])
def test_sums_as_they_are(count: int, outputs: int) -> None:
    torch.manual_seed(count)
    for rows in range(41):
        lhs, rhs = _numbers(rows, count), _numbers(count, outputs)
        out = np.full(rows * outputs + 16, 77, np.float32)
        packed = packing.packed(rhs[None, None], Arithmetic.AMX)
        _multiply(0, rows, outputs // 16, _left(lhs), count, packed, out, outputs, np.zeros(2, np.float32))
        answer, expected = out[: rows * outputs].reshape(rows, outputs), (lhs.double() @ rhs.double()).float()
        np.testing.assert_allclose(answer, expected, atol=1e-4, rtol=0)
        assert (out[rows * outputs :] == 77).all()


@pytest.mark.parametrize("outputs", [12, 22, 44, 160])
def test_what_a_panel_has_beyond_a_row_is_overwritten(outputs: int) -> None:
    """Vectors reach into the next row, which is written later; panels are multiplied the last one first."""
    torch.manual_seed(outputs)
    vectors = -(-outputs // 16)
    width = next(number for number in PANELS if vectors % number == 0)
    for rows in (1, 7, 16, 19, 40):
        lhs, rhs = _numbers(rows, 48), _numbers(48, outputs)
        packed = packing.packed(rhs[None, None], Arithmetic.AMX).reshape(vectors // width, -1)
        out = np.full(rows * outputs + 16, 77, np.float32)
        for panel in reversed(range(len(packed))):
            _multiply(
                0,
                rows,
                width,
                _left(lhs),
                48,
                packed[panel],
                out[panel * width * 16 :],
                outputs,
                np.zeros(2, np.float32),
            )
        np.testing.assert_allclose(out[: rows * outputs].reshape(rows, outputs), lhs @ rhs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [6, 32, 66])
def test_biases_and_prelu(half: bool, count: int) -> None:
    torch.manual_seed(count)
    for rows in (1, 2, 15, 16, 17, 31, 33, 40):
        lhs, rhs, biases, slopes = _numbers(rows, count), _numbers(count, 48), torch.randn(48), torch.rand(48)
        out = packing.numbers(torch.full((rows * 48 + 16,), 77.0), half)
        packed = packing.packed(rhs[None, None], Arithmetic.AMX)
        _multiply(1, rows, 3, _left(lhs), count, packed, out, 48, packing.activation(biases, slopes))
        _close(out, rows, 48, _prelu(lhs @ rhs, biases, slopes), half)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [8, 24, 66])
def test_eight_sums_a_row(half: bool, count: int) -> None:
    torch.manual_seed(count)
    for rows in (1, 2, 15, 16, 17, 32, 39):
        lhs, rhs, biases, slopes = _numbers(rows, count), _numbers(count, 8), torch.randn(8), torch.rand(8)
        out = packing.numbers(torch.full((rows * 8 + 16,), 77.0), half)
        packed = packing.packed_narrow(rhs[None], Arithmetic.AMX)
        activation = packing.activation(biases.repeat(2), slopes.repeat(2))
        _multiply(2, rows, 1, _left(lhs), count, packed, out, 8, activation)
        _close(out, rows, 8, _prelu(lhs @ rhs, biases, slopes), half)


@pytest.mark.parametrize(("count", "more"), [(24, 96), (96, 32), (24, 32), (48, 144)])
def test_sums_of_two_products(count: int, more: int) -> None:
    """One step through both, however long their rows."""
    torch.manual_seed(count)
    step = min(amx_tiles.STEP, count, more)
    for rows in (1, 9, 16, 37):
        lhs, rhs, other, last = (
            _numbers(2, rows, count),
            _numbers(2, count, 32),
            _numbers(rows, more),
            _numbers(more, 32),
        )
        biases, slopes = torch.randn(32), torch.rand(32)
        out = packing.numbers(torch.full((rows * 32 + 16,), 77.0), False)
        first, second = (packing.packed(matrix[None], Arithmetic.AMX, step) for matrix in (rhs, last[None]))
        activation = packing.activation(biases, slopes)
        _sum(rows, 2, _left(lhs), count, first, _left(other), more, second, out, activation)
        _close(out, rows, 32, _prelu((lhs @ rhs).sum(0) + other @ last, biases, slopes), False)


def test_threads_have_registers_of_their_own() -> None:
    """Each thread multiplies another shape, again and again, while the others do."""
    torch.manual_seed(0)

    def multiply(number: int) -> bool:
        rows, count = 1 + 7 * number, 2 + 18 * number
        lhs, rhs, out = _numbers(rows, count), _numbers(count, 80), np.empty(rows * 80 + 16, np.float32)
        packed, left = packing.packed(rhs[None, None], Arithmetic.AMX), _left(lhs)
        for _ in range(2000):
            _multiply(0, rows, 5, left, count, packed, out, 80, np.zeros(2, np.float32))
            if not np.allclose(out[: rows * 80].reshape(rows, 80), lhs @ rhs, atol=1e-3):
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(multiply, range(4)))


def _close(out: np.ndarray, rows: int, width: int, expected: torch.Tensor, half: bool) -> None:
    numbers = torch.from_numpy(out)
    values = numbers.view(torch.bfloat16).float() if half else numbers
    answer = values[: rows * width].view(rows, width)
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=2**-8 if half else 1e-5)
