"""The predicted work of all that waits, by deadline class and by client, and what each client has in flight."""

from __future__ import annotations

from dataclasses import dataclass

from service.core.deadline import CLASSES
from service.engine.scheduling.entry import Entry


@dataclass(slots=True)
class ClientLoad:
    """One client's share of a device."""

    in_flight: int = 0  #: requests waiting and running
    least: float = 0.0  #: least seconds of what waits


class Workload:
    """Sums over waiting requests, kept up to date as they come and go; seconds are predicted."""

    def __init__(self) -> None:
        #: Seconds by deadline class with each request's dearest route, and with its cheapest.
        self.most = [0.0] * CLASSES
        self.least = [0.0] * CLASSES
        self.clients: dict[str, ClientLoad] = {}

    def admit(self, entry: Entry) -> None:
        """Count a request against its client, until `release`."""
        self.clients.setdefault(entry.client, ClientLoad()).in_flight += 1

    def release(self, entry: Entry) -> None:
        """Count a request against its client no more."""
        client = self.clients[entry.client]
        client.in_flight -= 1
        if not client.in_flight:
            del self.clients[entry.client]

    def add(self, entry: Entry) -> None:
        """Count what a request that waits may cost; `remove` it before its cost changes."""
        least = entry.least_seconds
        self.most[entry.group] += entry.most_seconds
        self.least[entry.group] += least
        self.clients[entry.client].least += least

    def remove(self, entry: Entry) -> None:
        """Count its cost no more."""
        least = entry.least_seconds
        self.most[entry.group] -= entry.most_seconds
        self.least[entry.group] -= least
        self.clients[entry.client].least -= least

    def reset(self) -> None:
        """Count exactly nothing where nothing waits: sums of floats drift."""
        self.most, self.least = [0.0] * CLASSES, [0.0] * CLASSES
