"""Says how long a request's stages took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds one request was queued, routed and run.

    `blocks` (the network), `motion` (a mixture's candidates) and `mixing` (weighing them) are the whole batch's run
    time, not this request's share.
    """

    queue: float = 0.0
    route: float = 0.0
    blocks: float = 0.0
    motion: float = 0.0
    mixing: float = 0.0

    @property
    def device(self) -> float:
        """Return the seconds that the batch had the device, choosing its routes included."""
        return self.route + self.blocks + self.motion + self.mixing
