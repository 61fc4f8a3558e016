"""Whose turn it is: clients share a device by the time they have had of it, not by the number of their requests.

Start-time fair queueing (Goyal, Vin and Cheng 1996): each client has a place on a virtual clock, which its requests
move on by their predicted seconds. The client whose place is the lowest comes next; places of one quantum are alike,
and then the more urgent request goes first. Who had nothing to do starts at the lowest place of those that waited last:
time that it did not use is not saved up. Pure; `broker/lua/claim.lua` does the same.
"""

from __future__ import annotations

#: Seconds of a device that places are counted in: within one, order is by urgency, and fewer are late.
QUANTUM_S = 0.1
#: Seconds that a request counts for at least, also while nothing is known of its cost.
LEAST_TURN_S = 0.01
#: Places remembered; then those are forgotten that are of no use any more.
REMEMBERED = 1024


class FairShares:
    """The places of all clients of one device, in seconds of the virtual clock."""

    def __init__(self) -> None:
        self._places: dict[str, float] = {}
        self._last = 0.0

    def place(self, client: str) -> float:
        """Return where a client stands that begins to wait now."""
        return max(self._last, self._places.get(client, 0.0))

    def moved(self, client: str, place: float) -> float:
        """Return where a client stands by now that began to wait at `place`."""
        return max(place, self._places.get(client, 0.0))

    @staticmethod
    def turn(place: float) -> int:
        """Return the round in which a place's turn comes; lower first."""
        return int(place / QUANTUM_S)

    def charge(self, client: str, place: float, seconds: float, lowest: float) -> None:
        """Serve a client, which stands at `place`, a request of `seconds`; `lowest`: place of those that waited."""
        self._last = max(self._last, lowest)
        self._places[client] = place + max(LEAST_TURN_S, seconds)
        if len(self._places) > REMEMBERED:
            self._places = {name: at for name, at in self._places.items() if at > self._last}

    def rest(self) -> None:
        """Let all clients stand at one place: nobody waits and nothing runs, so nobody was kept waiting."""
        self._last = max([self._last, *self._places.values()])
        self._places.clear()
