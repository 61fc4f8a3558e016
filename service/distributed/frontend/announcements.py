"""Reads workers' announcements, whatever their release, and logs those that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.core.errors import NotFound
from service.core.interfaces import ServedModel
from service.distributed.broker import announcement, serialization
from service.distributed.frontend.prices import QueuePrices

log = logging.getLogger(__name__)

#: Workers whose announcement could not be read, remembered so that each is logged once.
REMEMBERED = 1000
#: Workers whose costs are read; the mean of more would be much the same.
PRICED = 8


@dataclass
class Announcements:
    """Reads announcements and logs each unreadable worker once; one for the life of a front end."""

    _logged: set[bytes] = field(default_factory=set)
    #: Versions of the weights that some worker has, the first one's default first; where none lives the last one's.
    versions: tuple[str, ...] = ()
    is_named: bool = False  #: they have names of their own
    stores: frozenset[str] = frozenset()  #: object stores that workers have, "" of those with none; likewise
    _model: ServedModel | None = None  #: the model that was told last

    def read(
        self, workers: Sequence[bytes], data: Sequence[bytes | None], latest: bytes | None
    ) -> tuple[ServedModel | None, QueuePrices]:
        """Return the model served and `workers`' prices; where none can be read, those of `latest`.

        Of several models the one told before stays, for as long as a worker has it: while a fleet is updated, every
        look would else tell another.
        """
        infos = [self._info(name, value) for name, value in zip(workers, data, strict=True)]
        readable = [info for info in infos if info is not None]
        last = self._info(b"the last one", latest)
        self._read_versions([value for value, info in zip(data, infos, strict=True) if info and value], last and latest)
        if not readable and last is not None:
            readable = [last]
        models = [model for model, _ in readable]
        self._model = self._model if self._model in models else models[0] if models else None
        costs = [cost for _, cost in readable if cost is not None]
        announcements = [value for value in data if value] or [latest or b""]
        self.stores = frozenset(map(announcement.read_store, announcements))
        devices = filter(None, map(announcement.read_costs, announcements[:PRICED]))
        return self._model, QueuePrices(tuple(devices), sum(costs) / len(costs) if costs else None)

    def check(self, version: str | None) -> None:
        """Raise NotFound for a version that no worker has, naming those that there are."""
        if version is not None and version not in self.versions:
            names = ", ".join(self.versions) or "none"
            raise NotFound(f"no worker has version {version[:80]!r}; there is {names}", field="version")

    def _read_versions(self, live: Sequence[bytes], latest: bytes | None) -> None:
        rows = [announcement.read_versions(value) for value in live or [value for value in [latest] if value]]
        if rows:
            self.versions = tuple(dict.fromkeys(name for names, _ in rows for name in names))
            self.is_named = any(is_named for _, is_named in rows)

    def _info(self, worker: bytes, data: bytes | None) -> tuple[ServedModel, float | None] | None:
        try:
            return announcement.read_info(data) if data else None
        except serialization.UnreadableEntry as error:
            if worker not in self._logged and len(self._logged) < REMEMBERED:
                self._logged.add(worker)
                log.warning("worker %s cannot be read by this release: %s", worker.decode(errors="replace"), error)
            return None
