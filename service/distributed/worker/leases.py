"""Renews a worker's leases from a thread of its own, and only while its main loop turns.

A stopped process, a blocked loop and a hung device all end the same way: leases run out and others do the work.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from service.distributed.broker import scripts
from service.distributed.broker.client import FAILED, LOST, SyncRedis, classify, hang_up_sync, reconnect_sync
from service.distributed.broker.keys import GROUP, Keys

log = logging.getLogger(__name__)

Lease = tuple[str, str]
"""A stream and an entry's id."""


class Leases:
    """`beat()` from the main loop proves it alive; `lost(lease)` is called in the thread for each one that is gone.

    Nothing ends the thread but `stop`: what it cannot do is given to `failed`, in the thread, and tried again.
    """

    def __init__(
        self,
        client: SyncRedis,
        keys: Keys,
        worker: str,
        *,
        lease_s: float,
        longest_s: float,
        about: Callable[[], bytes | None],
        lost: Callable[[Lease], None],
        failed: Callable[[BaseException], None] = lambda error: log.error("leases", exc_info=error),
    ) -> None:
        self._client = client
        self._keys = keys
        self._worker = worker
        self._lease_s = lease_s
        self._longest_s = longest_s
        self._about = about
        self._lost = lost
        self._failed = failed
        self._held: dict[Lease, float] = {}
        self._lock = threading.Lock()
        self._beat = time.monotonic()
        self._stop = threading.Event()
        # owned: ended by `stop`; its own loop outlives every exception
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to renew and to announce that this worker lives."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end, once the command under way is answered; leases that are still held run out."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait up to `seconds` for the thread's end; while Redis does not answer, it ends by itself later."""
        self._thread.join(seconds)

    def beat(self) -> None:
        """Note that the main loop turned."""
        self._beat = time.monotonic()

    def hold(self, lease: Lease) -> None:
        """Renew `lease` until `drop`."""
        with self._lock:
            self._held[lease] = time.monotonic()

    def drop(self, lease: Lease) -> None:
        """Stop renewing `lease`."""
        with self._lock:
            self._held.pop(lease, None)

    def holds(self, lease: Lease) -> bool:
        """Tell whether `lease` is (still) renewed."""
        with self._lock:
            return lease in self._held

    def _run(self) -> None:
        while not self._stop.is_set():
            if time.monotonic() - self._beat <= self._lease_s:
                # Apart: leases are kept even where this worker cannot say what it is.
                self._try(self._announce)
                self._try(self.renew)
            else:
                log.error("the main loop has not turned for a lease's time; leases are left to run out")
            self._stop.wait(self._lease_s / 3)
        with contextlib.suppress(*FAILED):
            self._client.zrem(self._keys.workers, self._worker)
            self._client.unlink(self._keys.info(self._worker))
        hang_up_sync(self._client)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if isinstance(failure := classify(error), LOST):
                log.debug("leases wait for redis: %s", failure)
                reconnect_sync(self._client)
            else:
                self._failed(error)

    def renew(self) -> None:
        """Renew every lease that is held, once, in one round trip: over a slow link one each would take too long."""
        with self._lock:
            leases = dict(self._held)
        now = time.monotonic()
        renewals = {}
        for lease, start in leases.items():
            if now - start > self._longest_s:
                log.error("an item has run for %.0f s; its lease is left to run out", now - start)
                self._end(lease)
            elif self.holds(lease):  # not handed back meanwhile, to be taken by whoever is to have it next
                stream, entry = lease
                bound = scripts.RENEW.bind(stream=stream, group=GROUP, entry=entry, worker=self._worker)
                renewals[lease] = bound
        for lease, answer in zip(renewals, scripts.call_many_sync(self._client, list(renewals.values())), strict=True):
            if isinstance(answer, Exception):
                raise answer
            if not answer:
                self._end(lease)

    def _end(self, lease: Lease) -> None:
        if self.holds(lease):
            self.drop(lease)
            self._lost(lease)

    def _announce(self) -> None:
        announcement = self._about()
        if announcement is None:
            return
        bound = scripts.ANNOUNCE.bind(
            workers=self._keys.workers,
            info=self._keys.info(self._worker),
            model=self._keys.model,
            worker=self._worker,
            about=announcement,
            life_ms=round(2000 * self._lease_s),
        )
        scripts.call_sync(self._client, bound)
