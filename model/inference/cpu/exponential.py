"""The exponential function in a form that the compiler turns into vector instructions."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inference.cpu.compiler import inlined
from model.inference.cpu.lanes import widened

_HALF = np.float32(0.5)
#: Coefficients of 2 to the power of a number from -1/2 to 1/2, exact to float32.
_POWERS = tuple(np.float32(np.log(2) ** n / np.prod(np.arange(1, n + 1))) for n in range(7))
_LOG2_E, _LEAST_POWER = np.float32(np.log2(np.e)), np.float32(-126)
_ALL, _FIRST = np.int32(127), np.int32(7)


@inlined
def power_of_e(number: Any) -> Any:
    """Return e to the power of a number that is not positive; of NaN anything."""
    exponent = number * _LOG2_E
    exponent = exponent if exponent > _LEAST_POWER else _LEAST_POWER
    whole = np.int32(exponent - _HALF)
    part = exponent - np.float32(whole)
    power = _POWERS[6]
    power = power * part + _POWERS[5]
    power = power * part + _POWERS[4]
    power = power * part + _POWERS[3]
    power = power * part + _POWERS[2]
    power = power * part + _POWERS[1]
    power = power * part + _POWERS[0]
    # A float32 whose upper half is an exponent alone.
    return power * widened(np.uint16((whole + _ALL) << _FIRST))
