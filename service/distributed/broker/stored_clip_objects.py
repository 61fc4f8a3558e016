"""Clips' bytes in a store elsewhere, their records in Redis: `ClipObjects` over a `BlobStore`.

A result is named after the lease under which it was made: whoever lost that writes over nobody's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from service.core.errors import NotFound
from service.distributed.broker.blob_store import BlobStore
from service.distributed.broker.client import AsyncRedis
from service.distributed.broker.clip_objects import BODY, PIECE, RANGE, ClipClaim, note_piece
from service.distributed.broker.keys import Keys
from service.distributed.broker.stored_objects import StoredObjects, one_piece
from service.serving.video.clip_disk import ClipFile


class StoredClipObjects:
    """`ClipObjects` in a store elsewhere."""

    def __init__(self, blobs: BlobStore, client: AsyncRedis, keys: Keys) -> None:
        self._blobs, self._client, self._keys = blobs, client, keys
        self._stored = StoredObjects(blobs, client, keys)

    def held(self, nbytes: int) -> int:
        """Return 0: none of it is in Redis."""
        return 0

    def pieces_of(self, clip: str, name: str, nbytes: int) -> list[str]:
        """Return no keys."""
        return []

    def ranges_of(self, clip: str, ranges: int) -> list[str]:
        """Return no keys."""
        return []

    async def put_body(self, clip: str, body: ClipFile) -> None:
        """Keep as `ClipObjects.put_body`. Its clip is noted first, so that nothing stays of one never accepted."""
        await self._stored.note(clip)
        await self._blobs.put(f"{clip}/{BODY}", _pieces(body))

    async def put_result(self, claim: ClipClaim, result: ClipFile) -> int:
        """Keep as `ClipObjects.put_result`: it is the clip's once its end is noted."""
        await self._blobs.put(f"{claim.clip}/{self.object_name(claim)}", _pieces(result))
        return 1

    async def put_range(self, claim: ClipClaim, number: int, data: bytes) -> int:
        """Keep as `ClipObjects.put_range`."""
        await self._blobs.put(f"{claim.clip}/{RANGE}{number}-{len(data)}", one_piece(data))
        return await note_piece(self._client, self._keys, claim, self._keys.job(claim.clip), b"", ranges=number + 1)

    async def get_range(self, clip: str, number: int) -> bytes | None:
        """Return as `ClipObjects.get_range`."""
        start = f"{clip}/{RANGE}{number}-"
        for name in await self._blobs.names(clip):
            if name.startswith(start):
                pieces = [piece async for piece in self._blobs.get(name, 0, int(name.removeprefix(start)))]
                return b"".join(pieces)
        return None

    async def get(self, clip: str, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield as `ClipObjects.get`."""
        if not name:
            raise NotFound("the clip was made before there was this store", field="job")
        pieces = self._blobs.get(f"{clip}/{name}", start, stop)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    def object_name(self, claim: ClipClaim) -> str:
        """Return the result's name under this lease."""
        return f"result-{claim.token}"

    async def remove(self, clip: str) -> None:
        """Remove all that is kept of a clip."""
        await self._stored.remove(clip)

    async def trim(self, clip: str, result: str) -> None:
        """Remove all but the result."""
        await self._blobs.remove([name for name in await self._blobs.names(clip) if name != f"{clip}/{result}"])

    async def sweep(self) -> None:
        """Remove as `StoredObjects.sweep`: of jobs, too."""
        await self._stored.sweep()


async def _pieces(file: ClipFile) -> AsyncIterator[bytes]:
    for start in range(0, file.nbytes, PIECE):
        yield await file.read_at(start, PIECE)
