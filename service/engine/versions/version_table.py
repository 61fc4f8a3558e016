"""Which versions of the weights are loaded, and which of them answers a request.

Pure: no clock, no lock; used by the event loop only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from service.core.errors import NotFound, Unavailable
from service.core.interfaces import ServedModel, VersionState, VersionStatus
from service.core.types import PredictRequest, Priority
from service.engine.versions.shadow_trial import ShadowTrial
from service.engine.versions.share_trial import ShareTrial

#: Seconds after which to ask again for a version that is being loaded.
LOADING_RETRY = 1.0


@dataclass(slots=True, eq=False)
class VersionRow:
    """A version that is loaded, or about to be. `number` stands in its requests' buckets."""

    name: str
    number: int
    sha256: str
    state: VersionState = VersionState.LOADING
    model: ServedModel | None = None  #: set with READY
    in_flight: int = 0  #: requests that are not answered yet
    on_idle: Callable[[], None] | None = None  #: called once, when it is unloading and nothing is in flight

    def served(self) -> ServedModel:
        """Return the description of what is loaded. Raises Unavailable before it is."""
        if self.model is None:
            raise Unavailable(f"version {self.name} is being loaded", reason="loading", retry_after=LOADING_RETRY)
        return self.model

    def enter(self) -> None:
        """Count a request in flight, until `leave`."""
        self.in_flight += 1

    def leave(self) -> None:
        """Count it no more."""
        self.in_flight -= 1
        self.notify_idle()

    def notify_idle(self) -> None:
        """Call `on_idle` where there is nothing to wait for."""
        if self.in_flight == 0 and self.on_idle is not None:
            on_idle, self.on_idle = self.on_idle, None
            on_idle()


class VersionTable:
    """The rows by name; one of them, once there is any, is the default."""

    def __init__(self) -> None:
        self._rows: dict[str, VersionRow] = {}
        self._default: VersionRow | None = None
        self._number = 0
        self.trial: ShareTrial | None = None  #: the version that gets a share, and how it fares
        self.shadow: ShadowTrial | None = None  #: the version that answers again what the default answered

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[VersionRow]:
        return iter(self._rows.values())

    @property
    def default(self) -> VersionRow:
        """Return the row that answers where no version is named. Raises Unavailable before there is one."""
        if self._default is None:
            raise Unavailable("the service is starting", reason="starting", retry_after=LOADING_RETRY)
        return self._default

    def begin(self, name: str, sha256: str) -> VersionRow:
        """Add a version that is being loaded, under a number that none had before."""
        row = self._rows[name] = VersionRow(name, self._number, sha256)
        self._number += 1
        return row

    def finish(self, row: VersionRow, model: ServedModel) -> None:
        """Note that a version is loaded; the first one is the default."""
        row.model, row.state = model, VersionState.READY
        if self._default is None:
            self._default = row

    def make_default(self, row: VersionRow) -> VersionRow:
        """Have a loaded version answer where none is named, from the next request on; return the one before."""
        before, self._default = self.default, row
        self.trial = self.shadow = None
        return before

    def give_share(self, row: VersionRow, share: float) -> None:
        """Give a loaded version this part of the live requests that name none; 0 ends it."""
        if share > 0:
            self.trial = ShareTrial(row.name, share)
        elif self.trial is not None and self.trial.name == row.name:
            self.trial = None

    def give_shadow(self, row: VersionRow, share: float) -> None:
        """Have a loaded version answer this part of the default's live requests again; 0 ends it."""
        if share > 0:
            self.shadow = ShadowTrial(row.name, share)
        elif self.shadow is not None and self.shadow.name == row.name:
            self.shadow = None

    def retire(self, row: VersionRow) -> None:
        """Take nothing new for a version."""
        row.state = VersionState.UNLOADING
        self.give_share(row, 0)
        self.give_shadow(row, 0)

    def drop(self, row: VersionRow) -> None:
        """Forget a version that is gone, or could not be loaded."""
        if self._rows.get(row.name) is row:
            del self._rows[row.name]

    def get(self, name: str) -> VersionRow | None:
        """Return a version's row, or None where it is not loaded."""
        return self._rows.get(name)

    def choose(self, request: PredictRequest) -> VersionRow:
        """Return the version that answers a request.

        Raises NotFound for one that is not loaded, naming those that are; Unavailable for one that is being loaded.
        """
        name = request.options.version
        if name is None:
            trial = self.trial
            if trial is None or request.priority is not Priority.LIVE or not trial.takes_next():
                return self.default
            return self._rows[trial.name]
        row = self._rows.get(name)
        if row is None or row.state is VersionState.UNLOADING:
            names = ", ".join(row.name for row in self if row.state is VersionState.READY)
            raise NotFound(f"version {name[:80]!r} is not loaded; there is {names}", field="version")
        if row.state is VersionState.LOADING:
            raise Unavailable(f"version {name} is being loaded", reason="loading", retry_after=LOADING_RETRY)
        return row

    def loaded(self) -> tuple[VersionStatus, ...]:
        """List the rows, the default first. Raises Unavailable before there is one."""
        return tuple(self._status(row) for row in sorted(self, key=lambda row: row is not self.default))

    def _status(self, row: VersionRow) -> VersionStatus:
        trial = self.trial if self.trial is not None and self.trial.name == row.name else None
        share = trial.share if trial is not None else 0.0
        reason = trial.reason if trial is not None else ""
        shadow = self.shadow.report() if self.shadow is not None and self.shadow.name == row.name else None
        return VersionStatus(row.name, row.state, row.model, row is self._default, share, reason, shadow)
