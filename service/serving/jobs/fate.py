"""What becomes of an item of the queue once its run has ended: pure, one decision over all that is known then.

Knows neither Redis nor the device; `service.distributed.worker.worker` gathers the facts of a run and carries out its
fate.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from service.core.errors import ServiceError

#: Devices lost under an item in runs that prove something (`Run.proves`) before it is taken for their breaker. One may
#: be chance, however short the run.
MAX_LOSSES = 2
#: Devices that the worst item costs: the first says nothing, since any of its company or of the device's past may be
#: the cause; the others were proven sound just before.
WORST_LOSSES = 1 + MAX_LOSSES

DEVICE_LOST = "device_lost"
OUT_OF_MEMORY = "out_of_memory"
DRAINING = "draining"


class RunEnd(enum.Enum):
    """How a run ended."""

    ANSWERED = "answered"
    REFUSED = "refused"  #: the request's own fault, or its deadline: no other device would do better
    BROKEN = "broken"  #: an internal error, whose cause may have been the batch's company
    BUSY = "busy"  #: the engine took nothing: not ready, or no room
    NO_MEMORY = "no memory"  #: it did not fit this device, by itself
    DEVICE_LOST = "device lost"  #: the device broke while it ran
    UNTRIED = "not run"  #: the device proved broken before it ran
    UNSTORABLE = "unstorable"  #: Redis does not take its answer
    STOPPED = "stopped"  #: its worker leaves in good order

    @classmethod
    def of(cls, error: ServiceError) -> RunEnd:
        """Classify the end of a run that raised `error`."""
        if error.code == "internal":
            return cls.BROKEN
        if error.code in ("queue_full", "client_limit"):
            return cls.BUSY
        if error.code != "unavailable":
            return cls.REFUSED
        reasons = {DEVICE_LOST: cls.DEVICE_LOST, OUT_OF_MEMORY: cls.NO_MEMORY, DRAINING: cls.STOPPED}
        return reasons.get(error.reason or "", cls.BUSY)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an item and what is known at its end."""

    end: RunEnd
    delivery: int  #: counts from 1, this one included
    max_deliveries: int
    leased: bool = True  #: the item is still its worker's
    alone: bool = False  #: nothing else ran on this worker meanwhile
    sound: bool = False  #: the device answered a frame of the worker's own just before
    losses: int = 0  #: devices lost before, in runs that prove something
    awaited: bool = False  #: a caller waits for it; else it is a job's
    others: bool = True  #: other workers live, which may do better

    @property
    def proves(self) -> bool:
        """Tell whether a device lost in this run is evidence against the item: hardly anything else did it."""
        return self.alone and self.sound


@dataclass(frozen=True, slots=True)
class Respond:
    """Its caller gets the answer, or the error."""


@dataclass(frozen=True, slots=True)
class HandBack:
    """Others may run it at once. `counted`: the run is held against it; `elsewhere`: not this worker, for a while."""

    counted: bool
    elsewhere: bool = False
    suspected: bool = False  #: a device was lost while it ran: its next device is proven sound first
    loss: bool = False  #: and the run proves something: that is noted with the item


@dataclass(frozen=True, slots=True)
class Bury:
    """Given up: its caller gets `reason` as an internal error, operators a dead letter."""

    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Another worker has it: nothing is said of it here."""


Fate = Respond | HandBack | Bury | Leave


def fate(run: Run) -> Fate:
    """Decide the item's fate. Only a run that had no chance is not held against it.

    So each item ends after `max_deliveries` runs at the latest, and one that breaks each device after WORST_LOSSES.
    """
    if not run.leased:
        return Leave()
    if run.end in (RunEnd.ANSWERED, RunEnd.REFUSED, RunEnd.UNSTORABLE):
        return Respond()
    if run.end in (RunEnd.STOPPED, RunEnd.UNTRIED):
        return HandBack(counted=False)
    is_loss = run.end is RunEnd.DEVICE_LOST
    if is_loss and run.proves and run.losses + 1 >= MAX_LOSSES:
        times = run.losses + 1
        return Bury(f"given up: the device was lost each of the {times} times that it ran alone on one that was sound")
    if run.delivery >= run.max_deliveries:
        return Bury(f"given up after {run.delivery} runs: {_LAST[run.end]}")
    if run.end is RunEnd.NO_MEMORY:
        # A caller is told at once where no other device could do better; a job has time for one to come.
        return Respond() if run.awaited and not run.others else HandBack(counted=True, elsewhere=True)
    return HandBack(counted=True, suspected=is_loss, loss=is_loss and run.proves)


_LAST = {
    RunEnd.BROKEN: "the last one ended with an internal error",
    RunEnd.BUSY: "the last worker had no room for it",
    RunEnd.NO_MEMORY: "the device had not enough memory for it",
    RunEnd.DEVICE_LOST: "the device was lost during the last one",
}
