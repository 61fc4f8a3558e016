"""The names of everything one queue keeps in Redis. All share one hash tag, so one Cluster slot holds a queue."""

from __future__ import annotations

from dataclasses import dataclass

#: The consumer group of every work stream.
GROUP = "workers"


def whole(value: bytes | None) -> int:
    """A number kept in Redis; 0 where there is none, or another release wrote none that is whole."""
    try:
        return int(value or 0)
    except ValueError:
        return 0


@dataclass(frozen=True, slots=True)
class Keys:
    """`queue` is the name in the hash tag; an ACL of `~{queue}:*` covers all."""

    queue: str

    def _key(self, *parts: str | int) -> str:
        return ":".join((f"{{{self.queue}}}", *map(str, parts)))

    def stream(self, priority: int, bucket: str) -> str:
        """Items of one class and one bucket, oldest first; gone while there are none."""
        return self._key("s", priority, bucket)

    def job(self, job: str) -> str:
        """Hash: state, owner, options and counts of a job, or of a call that waits."""
        return self._key("j", job)

    def payload(self, token: str) -> str:
        """Hash: frame number -> frame. Named by a token of the upload, so that a repeated submit overwrites nothing."""
        return self._key("p", token)

    def attempt(self, job: str, item: int, token: str) -> str:
        """One worker's answer, not yet the answer."""
        return self._key("a", job, item, token)

    def out(self, job: str, item: int) -> str:
        """The answer: the attempt whose finish came first."""
        return self._key("o", job, item)

    def reply(self, front: str) -> str:
        """Stream of the ids of one front end's answered calls."""
        return self._key("r", front)

    def front(self, front: str) -> str:
        """Exists while the front end lives; its calls are dropped unrun when it does not."""
        return self._key("f", front)

    def info(self, worker: str) -> str:
        """What a live worker says of itself; gone soon after it dies."""
        return self._key("w", worker)

    @property
    def buckets(self) -> str:
        """Set of the work streams that exist."""
        return self._key("buckets")

    @property
    def load(self) -> str:
        """Hash: items, bytes and microseconds of predicted work, queued and running; of jobs alone, too."""
        return self._key("load")

    @property
    def clients(self) -> str:
        """Hash: client -> items of its jobs, queued and running."""
        return self._key("clients")

    @property
    def results(self) -> str:
        """Hash: job -> bytes of its results, or of the room they may need; "sum" of all."""
        return self._key("results")

    @property
    def kept(self) -> str:
        """Sorted set: job that has ended -> until when its results are kept, in milliseconds of the server's clock."""
        return self._key("kept")

    @property
    def fetched(self) -> str:
        """Sorted set: job -> when the last of its results was fetched; the oldest makes room first."""
        return self._key("fetched")

    @property
    def wake(self) -> str:
        """List that idle workers block on: a token for each submission."""
        return self._key("wake")

    @property
    def events(self) -> str:
        """Stream of the ids of jobs that moved; every front end reads it."""
        return self._key("events")

    @property
    def cancels(self) -> str:
        """Stream of the ids of withdrawn jobs; every worker reads it."""
        return self._key("cancels")

    @property
    def dead(self) -> str:
        """Stream of dead letters."""
        return self._key("dead")

    @property
    def hooks(self) -> str:
        """Sorted set: job -> when its webhook is due, in milliseconds of the server's clock."""
        return self._key("hooks")

    @property
    def workers(self) -> str:
        """Sorted set: worker -> until when it counts as alive, in milliseconds of the server's clock."""
        return self._key("workers")

    @property
    def model(self) -> str:
        """What the workers served last; kept, so that a queue without workers still has a name for what it queues."""
        return self._key("model")
