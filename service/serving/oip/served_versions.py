"""Which versions of the weights answer, and under which names the Open Inference Protocol shows them.

A directory's versions go by their names. Weights that are one file have the protocol's version "1", whatever they are
called, as they always had; by their own name they can be asked for as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.app_state import AppState
from service.core.errors import NotFound, Unavailable
from service.core.interfaces import ServedModel, VersionState, VersionStatus
from service.serving.oip.models import VERSION, Model, find_model


@dataclass(frozen=True, slots=True)
class ServedVersions:
    """The loaded versions, the default first; none before the service has started."""

    statuses: tuple[VersionStatus, ...] = ()
    is_named: bool = False

    @classmethod
    def of(cls, state: AppState) -> ServedVersions:
        """Ask what is loaded now."""
        try:
            if state.repository is not None:
                return cls(state.repository.loaded(), state.repository.is_named)
            model = state.engine.model()
        except Unavailable:
            return cls()
        return cls((VersionStatus(model.version, VersionState.READY, model, is_default=True),))

    @property
    def names(self) -> tuple[str, ...]:
        """List the versions that answer, as they are shown, the default first."""
        ready = tuple(status.name for status in self.statuses if status.state is VersionState.READY)
        return ready if self.is_named else (VERSION, *ready[1:])

    def find_model(self, name: str, version: str = "") -> Model:
        """Return the model, or raise NotFound naming the models or the versions that there are."""
        model = find_model(name)
        self.option(version)
        return model

    def option(self, version: str) -> str | None:
        """Return the version to predict by; None for the default. Raises NotFound where no such version answers."""
        if not version or (version == VERSION and not self.is_named):
            return None
        if any(status.name == version and status.state is not VersionState.UNLOADING for status in self.statuses):
            return version
        raise NotFound(f"there is no version {version[:80]!r}; there is {', '.join(self.names)}")

    def check_loaded(self, name: str) -> None:
        """Raise NotFound where weights of this name, their own, are not loaded. Before the start nothing is known."""
        names = [status.name for status in self.statuses if status.state is not VersionState.UNLOADING]
        if names and name not in names:
            raise NotFound(f"version {name[:80]!r} is not loaded; there is {', '.join(names)}", field="version")

    def display_name(self, version: str, weights: str) -> str:
        """Return the version an answer shows, where `version` was asked for and `weights` made it."""
        return weights if self.is_named else version or VERSION

    def is_ready(self, version: str) -> bool:
        """Tell whether a version that `option` knows answers now."""
        try:
            self.model(version)
        except Unavailable:
            return False
        return True

    def model(self, version: str) -> ServedModel:
        """Return the description of a version that `option` knows. Raises Unavailable while it is being loaded."""
        name = self.option(version)
        for status in self.statuses:
            if status.model is not None and (status.name == name or (name is None and status.is_default)):
                return status.model
        raise Unavailable("not ready: starting", reason="starting", retry_after=1.0)
