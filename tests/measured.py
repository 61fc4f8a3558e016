"""Judges what is measured by the best of a few tries: what else a machine does only ever adds to a measurement."""

from __future__ import annotations

#: How often one thing is measured before it is called too much.
TRIES = 3


class UpperBounds:
    """Bounds of one test's measurements by name, each judged by the least of up to `TRIES` tries.

    A loop `while bounds.unmet(): ...; bounds.measured(stall_s=0.02)` ends at the first try that meets what none has met
    before it. Tests that use it carry the mark `measured`.
    """

    def __init__(self, **limits: float) -> None:
        self._limits = limits
        self._tries: list[dict[str, float]] = []

    def measured(self, **values: float) -> None:
        """Add the measurements of one try: a value for each bound."""
        assert values.keys() == self._limits.keys()
        self._tries.append(values)

    def unmet(self) -> bool:
        """Return whether another try is wanted. Raises AssertionError, with every value, after the last in vain."""
        exceeded = [name for name, limit in self._limits.items() if self._least(name) >= limit]
        assert not exceeded or len(self._tries) < TRIES, (
            f"{', '.join(exceeded)} in none of {TRIES} tries below {self._limits}: {self._tries}"
        )
        return bool(exceeded)

    def _least(self, name: str) -> float:
        return min((values[name] for values in self._tries), default=float("inf"))
