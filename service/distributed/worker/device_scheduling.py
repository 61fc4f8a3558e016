"""Defines what a worker needs of the scheduling of its device."""

from __future__ import annotations

from typing import Any, Protocol


class DeviceScheduling(Protocol):
    """What a worker tells the scheduling of its device, and what it publishes of it: a `RequestQueue`."""

    @property
    def device_rows(self) -> int:
        """Return the most requests that the device runs together."""
        ...

    def costs(self) -> dict[str, Any] | None:
        """Return what runs have cost, as plain values; None while nothing is known."""
        ...

    def set_backlog(self, seconds: float) -> None:
        """Take this device's part of all calls in the queue, in seconds of work."""
        ...
