"""Where the clips come from that a service is to make: files here, and objects of a bucket.

Knows nothing of the service.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

from service.addresses import object_store
from service.object_store import s3_store
from service.serving.video.clip import VideoError
from service.settings import Settings

#: What an address of a bucket begins with.
S3 = "s3://"
PIECE = 2**20


class ClipInput(Protocol):
    """One clip that is to be sent."""

    @property
    def name(self) -> str:
        """Return its file name."""
        ...

    def digest(self) -> Any:
        """Return a SHA-256 that another clip, or the same one once it is changed, has not; it may be updated."""
        ...

    def on_disk(self, folder: Path) -> Any:
        """Yield a file with its bytes, in `folder` for as long as the block lasts if it is not here already."""
        ...


@dataclass(frozen=True, slots=True)
class FileInput:
    """A clip in a file."""

    path: Path

    @property
    def name(self) -> str:
        """Return as `ClipInput.name`."""
        return self.path.name

    def digest(self) -> Any:
        """Hash its bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    @contextmanager
    def on_disk(self, folder: Path) -> Iterator[Path]:
        """Yield the file itself."""
        yield self.path


class ClipBucket(Protocol):
    """Objects below an address. Verbs raise VideoError where the store fails."""

    @property
    def address(self) -> str:
        """Return what the names of its objects are relative to, s3://BUCKET/PREFIX."""
        ...

    def tags(self) -> dict[str, str]:
        """Return the objects' names, each with what changes when the object does; "" is the address itself."""
        ...

    def fetch(self, name: str, tag: str) -> Iterator[bytes]:
        """Yield the bytes of an object. VideoError where it has another tag by now."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectInput:
    """A clip in a bucket, as it was when it was listed: it is fetched only to be sent."""

    bucket: ClipBucket
    key: str
    tag: str

    @property
    def name(self) -> str:
        """Return as `ClipInput.name`."""
        return PurePosixPath(self.key or self.bucket.address).name

    def digest(self) -> Any:
        """Hash its address and its tag."""
        return hashlib.sha256(f"{self.bucket.address}/{self.key} {self.tag}".encode())

    @contextmanager
    def on_disk(self, folder: Path) -> Iterator[Path]:
        """Fetch it into `folder`, and remove it after the block."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as file:
            for piece in self.bucket.fetch(self.key, self.tag):
                file.write(piece)
            file.flush()
            yield Path(file.name)


class S3Bucket:
    """A `ClipBucket` of an S3-compatible service, through obstore."""

    def __init__(self, address: str, settings: Settings) -> None:
        try:
            self.address = object_store(address)
            parts = urlsplit(self.address)
            self._store = s3_store(parts.netloc, settings)
        except (ValueError, ImportError) as error:
            raise VideoError(f"{address}: {error}") from error
        self._prefix = parts.path.strip("/")

    def tags(self) -> dict[str, str]:
        """List as `ClipBucket.tags`."""
        import obstore

        with self._failures():
            entries = [entry for chunk in obstore.list(self._store, self._prefix or None) for entry in chunk]
            if self._prefix:
                with suppress(FileNotFoundError):
                    entries.append(obstore.head(self._store, self._prefix))
        return {entry["path"].removeprefix(self._prefix).lstrip("/"): _tag(entry) for entry in entries}

    def fetch(self, name: str, tag: str) -> Iterator[bytes]:
        """Yield as `ClipBucket.fetch`."""
        import obstore

        path = "/".join(part for part in (self._prefix, name) if part)
        with self._failures():
            reply = obstore.get(self._store, path)
            if _tag(reply.meta) != tag:
                raise VideoError("it was changed after it was listed; run this again")
            for piece in reply.stream(min_chunk_size=PIECE):
                yield bytes(piece)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        import obstore.exceptions

        try:
            yield
        except (obstore.exceptions.BaseError, FileNotFoundError) as error:
            raise VideoError(f"{self.address} cannot be read: {type(error).__name__}") from error


def _tag(entry: Any) -> str:
    """Return what changes when an object does; not each service has an ETag of each object."""
    return f"{entry.get('e_tag') or entry['last_modified']} {entry['size']}"
