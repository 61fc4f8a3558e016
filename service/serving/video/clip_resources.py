"""What all clips of a process share: places, disk, the memory of their frames, and looks into new ones."""

from __future__ import annotations

import asyncio

from service.app_state import AppState
from service.serving.video.clip_disk import ClipDisk, ClipFile
from service.serving.video.clip_memory import ClipMemory
from service.serving.video.clip_places import ClipPlaces
from service.serving.video.conversion import ClipOrder, Conversion

#: Clips looked into at once before they are accepted as jobs: each has a decoder and a frame.
CHECKED_AT_ONCE = 2


class ClipResources:
    """The resources of one process, built once for its edge and for whoever makes clips behind it."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self.places = ClipPlaces()
        self.disk = ClipDisk(state.settings.max_video_bytes)
        self.memory = ClipMemory(state.settings.inflight_bytes)
        self._checking = asyncio.Semaphore(CHECKED_AT_ONCE)

    def conversion(self, order: ClipOrder, client: str, body: ClipFile, *, patient: bool) -> Conversion:
        """Build the conversion of one clip. `patient`: it waits for room for its frames."""
        most = self.disk.one_clip
        return Conversion(self._state, order, client, body, most, self.memory, patient=patient)

    async def check(self, order: ClipOrder, client: str, body: ClipFile) -> int | None:
        """Look into a clip before it is accepted: frames, where known. InvalidFrame if it is no clip."""
        async with self._checking:
            return await self.conversion(order, client, body, patient=True).check()
