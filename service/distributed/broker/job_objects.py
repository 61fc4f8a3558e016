"""Frames and results of jobs in a store elsewhere, where they are large: in Redis a reference has each one's place.

A reference is a small map with the object's name and size. Whoever has no such store cannot read it: workers leave its
job to others. Calls, whose callers wait, stay in Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Collection, Mapping

from service.core.errors import NotFound
from service.distributed.broker.blob_store import BlobStore, StoreUnavailable, blob_store, store_name
from service.distributed.broker.client import FAILED, AsyncRedis, backoff
from service.distributed.broker.keys import Keys
from service.distributed.broker.serialization import UnreadableEntry, pack, unpack
from service.distributed.broker.stored_objects import StoredObjects, one_piece
from service.distributed.broker.transfers import Transfers
from service.settings import Settings

log = logging.getLogger(__name__)

#: Bytes of a frame or a result from which it is kept elsewhere: to ask a store for less costs more than Redis saves.
LARGE = 64 * 2**10
#: A reference has fewer bytes than this.
REFERENCE_BYTES = 512
#: Seconds between two tries to use a store, at most, and the folder of what is stored for that.
PROOF_S, PROOF = 60.0, "proof"
#: What the names of frames and of results begin with.
FRAME, RESULT = "f", "r"


class JobObjects:
    """The large frames and results of one queue's jobs; `name` is the store's, as `store_name` gives it.

    Verbs raise StoreUnavailable where the store fails, and what redis-py raises; those that remove raise neither: what
    they leave is swept once the job's record is gone.
    """

    def __init__(self, name: str, blobs: BlobStore, client: AsyncRedis, keys: Keys) -> None:
        self.name, self._blobs = name, blobs
        self.proven_name = ""  #: the name once this process has used the store: it may have no way there
        self._stored = StoredObjects(blobs, client, keys)
        self._transfers = Transfers()

    async def put_frames(self, job: str, frames: Mapping[int, bytes]) -> dict[int, bytes]:
        """Store the large ones of a job's frames; return what Redis holds of each, by its number."""
        upload = uuid.uuid4().hex  # of this try: one that is repeated overwrites nothing
        if any(len(frame) >= LARGE for frame in frames.values()):
            await self._stored.note(job)
        values = await asyncio.gather(
            *(self._put(job, f"{FRAME}{upload}-{number}", frame) for number, frame in frames.items())
        )
        return dict(zip(frames, values, strict=True))

    async def put_result(self, job: str, item: int, data: bytes) -> bytes:
        """Store a job's result if it is large; return what Redis holds of it: the item's once its end is noted."""
        if len(data) >= LARGE:
            await self._stored.note(job)
        return await self._put(job, f"{RESULT}{item}-{uuid.uuid4().hex}", data)

    async def _put(self, job: str, name: str, data: bytes) -> bytes:
        if len(data) < LARGE:
            return data
        async with self._transfers.place(len(data)):
            await self._blobs.put(f"{job}/{name}", one_piece(data))
        return pack({"at": f"{job}/{name}", "n": len(data)})

    async def get(self, value: bytes) -> bytes:
        """Return what a value in Redis refers to, or the value where it is none. Raises NotFound where it is gone."""
        reference = read_reference(value)
        if reference is None:
            return value
        name, nbytes = reference
        async with self._transfers.place(nbytes):
            return b"".join([piece async for piece in self._blobs.get(name, 0, nbytes)])

    async def prove(self) -> None:
        """Store, read and remove an object, again until that succeeds; set `proven_name`."""
        delays = backoff(random.Random(), longest=PROOF_S)
        while True:
            name = f"{PROOF}/{uuid.uuid4().hex}"
            try:
                await self._blobs.put(name, one_piece(b"x"))
                async for _ in self._blobs.get(name, 0, 1):
                    pass
                await self._blobs.remove([name])
                self.proven_name = self.name
                return
            except (StoreUnavailable, NotFound) as error:
                log.warning("jobs' frames and results stay in Redis: %s", error)
                await asyncio.sleep(next(delays))

    async def discard(self, values: Collection[bytes]) -> None:
        """Remove what these values in Redis refer to: nobody's any more."""
        references = filter(None, map(read_reference, values))
        with contextlib.suppress(*FAILED, StoreUnavailable):
            await self._blobs.remove([name for name, _ in references])

    async def remove(self, job: str, prefix: str = "") -> None:
        """Remove all that a job has, or only its frames (FRAME) or results (RESULT)."""
        with contextlib.suppress(*FAILED, StoreUnavailable):
            if await self._stored.has_any(job):
                await self._stored.remove(job, prefix)


def read_reference(value: bytes) -> tuple[str, int] | None:
    """Return the name and the bytes of the object that a value refers to; None where the value is the thing itself."""
    if len(value) >= REFERENCE_BYTES:
        return None
    try:
        fields = unpack(value)
    except UnreadableEntry:
        return None
    name, nbytes = fields.get("at"), fields.get("n")
    return (name, nbytes) if isinstance(name, str) and type(nbytes) is int else None


def job_objects(settings: Settings, client: AsyncRedis, keys: Keys, *, is_optional: bool = False) -> JobObjects | None:
    """Build the store of a queue's jobs; None where the settings name none.

    Raises ImportError as `blob_store`; where the store `is_optional`, None instead and a line in the log.
    """
    try:
        blobs = blob_store(settings)
    except ImportError as error:
        if not is_optional:
            raise
        log.warning("jobs' frames and results stay in Redis: %s", error)
        return None
    return None if blobs is None else JobObjects(store_name(settings), blobs, client, keys)
