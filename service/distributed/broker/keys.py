"""The names of everything one queue keeps in Redis. All share one hash tag, so one Cluster slot holds a queue."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

#: The consumer group of every work stream.
GROUP = "workers"
#: Slots that the clients of one bucket and class are spread over, each with a stream of its own: see `slot_of`.
SLOTS = 32


def whole(value: bytes | None) -> int:
    """Read a number kept in Redis; 0 where there is none, or another release wrote none that is whole."""
    try:
        return int(value or 0)
    except ValueError:
        return 0


def slot_of(client: str) -> int | None:
    """Return the slot of a client; two clients of one slot share its turns. None where nobody is known."""
    return zlib.crc32(client.encode()) % SLOTS if client else None


@dataclass(frozen=True, slots=True)
class Keys:
    """Names the keys of one queue. `queue` is the name in the hash tag; an ACL of `~{queue}:*` covers all."""

    queue: str

    def _key(self, *parts: str | int) -> str:
        return ":".join((f"{{{self.queue}}}", *map(str, parts)))

    @property
    def streams(self) -> str:
        """Return what the names of all work streams begin with."""
        return self._key("s", "")

    def stream(self, priority: int, bucket: str, slot: int | None = None) -> str:
        """Name the stream of items of one class, bucket and slot of clients, oldest first; gone while there are none.

        Items of nobody's have no slot, and all items of releases that know of none.
        """
        return self._key("s", priority, bucket) if slot is None else self._key("s", priority, slot, bucket)

    def priority(self, stream: str) -> int | None:
        """Read the class from a stream's name; None where another release names its streams differently."""
        number = stream.removeprefix(self._key("s", "")).partition(":")[0]
        return int(number) if number.isdecimal() else None

    def job(self, job: str) -> str:
        """Name the hash: state, owner, options and counts of a job, or of a call that waits."""
        return self._key("j", job)

    def payload(self, token: str) -> str:
        """Name the hash: frame number -> frame. `token` is an upload's: a repeated submit overwrites nothing."""
        return self._key("p", token)

    def attempt(self, job: str, item: int, token: str) -> str:
        """Name one worker's answer, not yet published as the item's."""
        return self._key("a", job, item, token)

    def out(self, job: str, item: int) -> str:
        """Name the published answer: the attempt whose finish came first."""
        return self._key("o", job, item)

    def piece(self, clip: str, name: str, number: int) -> str:
        """Name a piece of a clip: of its body (`b`), a range of predicted frames (`k`), or of its result (``)."""
        return self._key("o", clip, f"{name}{number}")

    def owned(self, client: str) -> str:
        """Name the sorted set: job or clip of this client -> when it was accepted, ms."""
        return self._key("c", client)

    def reply(self, front: str) -> str:
        """Name the stream of the ids of one front end's answered calls, or, by the id of a call, of that one alone."""
        return self._key("r", front)

    def front(self, front: str) -> str:
        """Name a key that exists while the front end lives; its calls are dropped unrun when it does not."""
        return self._key("f", front)

    def allowance(self, client: str) -> str:
        """Name the hash: what a caller has left of its requests and its FLOPs; gone while that is all."""
        return self._key("b", client)

    def info(self, worker: str) -> str:
        """Name a live worker's announcement; gone soon after it dies."""
        return self._key("w", worker)

    @property
    def buckets(self) -> str:
        """Name the set of the work streams that exist."""
        return self._key("buckets")

    @property
    def due(self) -> str:
        """Name the sorted set: work stream -> when its next unclaimed item is due, in the server's milliseconds."""
        return self._key("due")

    @property
    def idle(self) -> str:
        """Name the sorted set: worker whose device has nothing to do -> until when that counts, milliseconds."""
        return self._key("idle")

    @property
    def turns(self) -> str:
        """Name the hash: slot of clients -> microseconds where its device time stands; gone when nothing is queued."""
        return self._key("turns")

    @property
    def load(self) -> str:
        """Name the hash: items, bytes and microseconds of predicted work, queued and running; of jobs alone, too."""
        return self._key("load")

    @property
    def clients(self) -> str:
        """Name the hash: client, or address of who has no key -> items of its jobs, queued and running."""
        return self._key("clients")

    @property
    def results(self) -> str:
        """Name the hash: job -> bytes of its results, or of the room they may need; "sum" of all."""
        return self._key("results")

    @property
    def kept(self) -> str:
        """Name the sorted set: job that has ended -> until when its results are kept, in the server's milliseconds."""
        return self._key("kept")

    @property
    def fetched(self) -> str:
        """Name the sorted set: job -> when the last of its results was fetched; the oldest makes room first."""
        return self._key("fetched")

    @property
    def wake(self) -> str:
        """Name the list that idle workers block on: a token for each item submitted."""
        return self._key("wake")

    @property
    def events(self) -> str:
        """Name the stream of the ids of jobs that moved; every front end reads it."""
        return self._key("events")

    @property
    def cancels(self) -> str:
        """Name the stream of the ids of withdrawn jobs; every worker reads it."""
        return self._key("cancels")

    @property
    def dead(self) -> str:
        """Name the stream of dead letters."""
        return self._key("dead")

    @property
    def hooks(self) -> str:
        """Name the sorted set: job -> when its webhook is due, in milliseconds of the server's clock."""
        return self._key("hooks")

    @property
    def workers(self) -> str:
        """Name the sorted set: worker -> until when it counts as alive, in milliseconds of the server's clock."""
        return self._key("workers")

    @property
    def model(self) -> str:
        """Name the last worker's announcement; kept, so that a queue without workers still has a model's name."""
        return self._key("model")

    @property
    def clip_line(self) -> str:
        """Name the sorted set: clip that waits, a space, whoever is counted for it -> when it was accepted, ms."""
        return self._key("clips", "line")

    @property
    def clip_leases(self) -> str:
        """Name the sorted set: clip that is made, a space, whoever is counted -> until when it is its maker's, ms."""
        return self._key("clips", "leases")

    @property
    def clip_served(self) -> str:
        """Name the sorted set: whoever is counted for clips -> when one of theirs was last begun, ms."""
        return self._key("clips", "served")

    @property
    def clips(self) -> str:
        """Name the hash: clip -> who is counted for it."""
        return self._key("clips")

    @property
    def clip_objects(self) -> str:
        """Name the sorted set: clip with objects in a store elsewhere -> when the first was written, ms."""
        return self._key("clips", "objects")
