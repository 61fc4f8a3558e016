"""How much of what a soak runs; each is an option of `python -m tests.system.soak`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run; the defaults are `make soak`'s."""

    seconds: float = 60.0  #: of each overload
    load: float = 3.0  #: times the capacity
    deadline_ms: int = 1000
    height: int = 128
    width: int = 224
    weights: str = "ours"
    measure: float = 10.0  #: seconds of each measurement of capacity
    leavers: int = 200
    mixed: int = 10_000
