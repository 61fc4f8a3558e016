"""The versions of the weights that workers have, as a front end shows them and lets callers choose."""

from __future__ import annotations

from dataclasses import replace

from service.core.errors import Unsupported
from service.core.interfaces import VersionState, VersionStatus
from service.distributed.frontend.queue_client import QueueClient

ELSEWHERE = "versions are loaded in the workers: each takes loads on its own port"


class WorkerVersions:
    """What the workers announce. Implements `service.core.interfaces.ModelRepository`, but loads nothing."""

    def __init__(self, front: QueueClient) -> None:
        self._front = front

    @property
    def is_named(self) -> bool:
        """Tell whether a worker's versions have names of their own."""
        return self._front.announcements.is_named

    def loaded(self) -> tuple[VersionStatus, ...]:
        """List the versions that some worker has, the default first. Raises Unavailable before there was a worker.

        Of others than the default a worker tells no more than the name.
        """
        model = self._front.model()
        others = [name for name in self._front.announcements.versions if name != model.version]
        plain = [replace(model, version=name, sha256="", training_data="unknown", scores={}) for name in others]
        first = VersionStatus(model.version, VersionState.READY, model, is_default=True)
        return (first, *(VersionStatus(other.version, VersionState.READY, other) for other in plain))

    async def index(self) -> tuple[VersionStatus, ...]:
        """List the same: what a worker could load, only it knows."""
        return self.loaded()

    async def load(
        self, version: str | None = None, share: float | None = None, shadow: float | None = None
    ) -> VersionStatus:
        """Refuse: a front end has no device."""
        raise Unsupported(ELSEWHERE)

    async def unload(self, version: str) -> None:
        """Refuse: a front end has no device."""
        raise Unsupported(ELSEWHERE)
