"""Bytes by name in a store elsewhere: a folder that all processes share, or a bucket of an S3-compatible service."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from service.core.errors import NotFound, Unavailable
from service.object_store import s3_store
from service.settings import Settings
from service.thread_work import run_to_end

#: Bytes read at once.
PIECE = 2**20
#: Parts of an upload to S3, bytes: the least that it takes.
PART = 5 * 2**20
#: Times that a folder is made for a file that others empty and remove.
OPEN_TRIES = 10


class StoreUnavailable(Unavailable):
    """The store elsewhere fails; later it may not."""


class BlobStore(Protocol):
    """Names have slashes; what is before the first one is a prefix. Verbs raise StoreUnavailable where it fails."""

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Store all of it or nothing, in the place of what was there."""
        ...

    def get(self, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield bytes `start` to `stop`. Raises NotFound where they are gone."""
        ...

    async def names(self, prefix: str) -> list[str]:
        """List what is stored below a prefix."""
        ...

    async def remove(self, names: list[str]) -> None:
        """Remove these; what is gone already is no error."""
        ...


class FolderBlobs:
    """A folder, of a volume that all processes mount."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Store as `BlobStore.put`: written beside its name, which it gets when it is whole."""
        path = self._folder / name
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            file = await run_to_end(partial(_created, part), release=partial(_discard, part))
            try:
                async for piece in pieces:
                    await run_to_end(partial(file.write, piece))
                await run_to_end(file.close)
                await run_to_end(partial(part.replace, path))
            finally:
                await run_to_end(partial(_discard, part, file))
        except OSError as error:
            raise _failed(error) from error

    async def get(self, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield as `BlobStore.get`."""
        try:
            descriptor = await run_to_end(partial(os.open, self._folder / name, os.O_RDONLY), release=os.close)
        except FileNotFoundError:
            raise NotFound("the clip was deleted before it was read", field="job") from None
        except OSError as error:
            raise _failed(error) from error
        try:
            while start < stop:
                piece = await run_to_end(partial(os.pread, descriptor, min(PIECE, stop - start), start))
                if not piece:
                    raise NotFound("the clip was deleted while it was read", field="job")
                start += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    async def names(self, prefix: str) -> list[str]:
        """List as `BlobStore.names`."""
        return await asyncio.to_thread(self._names, prefix)

    def _names(self, prefix: str) -> list[str]:
        folder = self._folder / prefix
        if not folder.is_dir():
            return []
        return sorted(f"{prefix}/{path.name}" for path in folder.iterdir())

    async def remove(self, names: list[str]) -> None:
        """Remove as `BlobStore.remove`, with folders that are then empty."""
        await asyncio.to_thread(self._remove, names)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            path = self._folder / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # it holds others, or is gone
                path.parent.rmdir()


def _created(path: Path) -> BinaryIO:
    """Open a new file for writing, and make its folder, which may vanish in between with the last of its files."""
    for _ in range(OPEN_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return path.open("wb")
    return path.open("wb")


def _discard(path: Path, file: BinaryIO) -> None:
    file.close()
    path.unlink(missing_ok=True)


class S3Blobs:
    """A bucket, through obstore; a large object goes up in parts."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Store as `BlobStore.put`."""
        import obstore

        with _told():
            await obstore.put_async(self._store, name, pieces, chunk_size=PART)

    async def get(self, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield as `BlobStore.get`."""
        import obstore

        while start < stop:
            with _told():
                try:
                    end = min(start + PIECE, stop)
                    piece = bytes(await obstore.get_range_async(self._store, name, start=start, end=end))
                except FileNotFoundError:
                    raise NotFound("the clip was deleted while it was read", field="job") from None
            if not piece:
                raise NotFound("the clip was deleted while it was read", field="job")
            start += len(piece)
            yield piece

    async def names(self, prefix: str) -> list[str]:
        """List as `BlobStore.names`."""
        import obstore

        with _told():
            return [entry["path"] async for chunk in obstore.list(self._store, f"{prefix}/") for entry in chunk]

    async def remove(self, names: list[str]) -> None:
        """Remove as `BlobStore.remove`."""
        import obstore

        with _told():
            if names:
                await obstore.delete_async(self._store, names)


@contextmanager
def _told() -> Iterator[None]:
    """Raise StoreUnavailable for what the store's client raises."""
    import obstore.exceptions

    try:
        yield
    except obstore.exceptions.BaseError as error:
        raise _failed(error) from error


def _failed(error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(f"the object store fails: {type(error).__name__}", reason="object_store", retry_after=5.0)


def store_name(settings: Settings) -> str:
    """Name the store of these settings, the same in each process that has it; "" where there is none."""
    if not settings.object_store:
        return ""
    return hashlib.sha256(f"{settings.object_store} {settings.object_store_endpoint}".encode()).hexdigest()[:12]


def blob_store(settings: Settings) -> BlobStore | None:
    """Build the store that the settings name; None where all stays in Redis. Raises ImportError without obstore."""
    if not settings.object_store:
        return None
    address = urlsplit(settings.object_store)
    if address.scheme == "file":
        return FolderBlobs(Path(address.path) / settings.redis_queue)
    prefix = "/".join(part for part in (address.path.strip("/"), settings.redis_queue) if part)
    return S3Blobs(s3_store(address.netloc, settings, prefix))
