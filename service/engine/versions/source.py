"""Where further versions come from: read in a thread, built on the device's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from service.engine.device import Device
from service.engine.predictor import Predictor
from service.engine.versions.weight_files import WeightFiles
from service.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVersion:
    """A version that was read. `build` makes a device of it, on the device thread."""

    name: str
    sha256: str
    build: Callable[[], Device]


class VersionSource(Protocol):
    """Finds versions and prepares them. Methods may block; they are called in threads."""

    @property
    def is_named(self) -> bool:
        """Tell whether versions have names of their own."""
        ...

    def names(self) -> list[str]:
        """List what can be loaded by name, the oldest first."""
        ...

    def prepare(self, version: str | None = None) -> PreparedVersion:
        """Read a version, None: the newest. Raises NotFound, or CheckpointError for a file of no use."""
        ...


class CheckpointSource:
    """Versions from the files that the settings name. Implements `VersionSource`."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._files = settings, WeightFiles(settings)
        self.is_named = self._files.is_named

    def names(self) -> list[str]:
        """List the directory's versions; none for a single file, which is read to know its version."""
        return self._files.names()

    def prepare(self, version: str | None = None) -> PreparedVersion:
        """Read the version's file. One that is no directory has but one version, which a name must match."""
        weights = self._files.read(version or self._files.newest() if self.is_named else "")
        return PreparedVersion(weights.version, weights.sha256, lambda: Predictor.by(weights, self._settings))
