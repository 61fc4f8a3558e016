"""Reads the weights that the settings name: one file, a directory with a file for each version, or an address.

A directory is read as Triton reads its model repository: what is there is available, and what it is called is its
version. A model has one file here, so that a version is a file, NAME.safetensors, where Triton has a folder. Names are
ordered as people count: v9 comes before v10.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model import checkpoint
from model.checkpoint import CheckpointError
from model.dmvfn.network import DMVFN
from service.core.errors import NotFound
from service.core.types import VERSION_NAME
from service.engine.versions.download import SUFFIXES, fetch
from service.settings import Settings
from service.weights_reference import ArtifactWeights, RemoteWeights


@dataclass(frozen=True, slots=True, eq=False)
class LoadedWeights:
    """A checkpoint in memory: the network on the CPU, its version's name, and the digest of its file."""

    version: str
    network: DMVFN
    sha256: str


class WeightFiles:
    """Finds and reads versions. `is_named`: they are files of a directory, whose names are theirs."""

    def __init__(self, settings: Settings) -> None:
        """Take what the settings name; without a name, ours."""
        self._place, self._settings = settings.weights or checkpoint.DEFAULT, settings
        self.is_named = isinstance(self._place, Path) and self._place.is_dir()

    def names(self) -> list[str]:
        """List the versions of the directory, the oldest first; none for a file or an address, which names its own.

        Hidden files are left out: who writes a version writes it elsewhere or hidden, and renames it when it is whole.
        """
        return sorted(self._files(), key=_counted)

    def newest(self) -> str:
        """Return the last of `names`; "" for a file or an address. Raises CheckpointError for an empty directory."""
        if not self.is_named:
            return ""
        if names := self.names():
            return names[-1]
        raise CheckpointError(f"{self._place}: no version there (a file such as v1.safetensors)")

    def first(self, versions: Sequence[str] = ()) -> LoadedWeights:
        """Read the first of `versions`; where there is none the newest. Blocks. Raises CheckpointError."""
        if versions and not self.is_named:
            raise CheckpointError("DMVFN_VERSIONS needs a directory of versions in DMVFN_WEIGHTS")
        try:
            return self.read(versions[0] if versions else self.newest())
        except NotFound as error:
            raise CheckpointError(f"DMVFN_VERSIONS: {error}") from error

    def read(self, version: str = "") -> LoadedWeights:
        """Read a version of the directory, or the one file there is. Blocks; an address is downloaded first.

        Raises NotFound for a version that is not there, CheckpointError for a file that is no checkpoint.
        """
        path = self._path(version)
        network = checkpoint.load(path)
        about = checkpoint.metadata(network)
        if self.is_named:
            about = dataclasses.replace(about, version=version)
            network.metadata = about
        return LoadedWeights(about.version, network, hashlib.sha256(path.read_bytes()).hexdigest())

    def _path(self, version: str) -> Path:
        if isinstance(self._place, (RemoteWeights, ArtifactWeights)):
            return fetch(self._place, self._settings)
        if not self.is_named:
            return self._place
        files = self._files()
        if version not in files:
            raise NotFound(f"there is no version {version[:80]!r}; there is {', '.join(self.names()) or 'none'}")
        return files[version]

    def _files(self) -> dict[str, Path]:
        if not self.is_named or not isinstance(self._place, Path):
            return {}
        try:
            paths = sorted(self._place.iterdir())
        except OSError as error:
            raise CheckpointError(f"{self._place}: cannot be listed ({error.strerror})") from error
        return {
            path.stem: path
            for path in paths
            if path.suffix in SUFFIXES and VERSION_NAME.fullmatch(path.stem) and path.is_file()
        }


def _counted(name: str) -> list[tuple[int, int, str]]:
    """Return a key by which numbers in names are ordered as numbers."""
    words = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(word), "") if word[0] in "0123456789" else (1, 0, word) for word in words]
