"""Stores for clips' bytes: a folder here; `make object-store` asks a real S3 server, too."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest

from service import addresses
from service.core.errors import NotFound, Unavailable
from service.distributed.broker import blob_store
from service.distributed.broker.blob_store import PART, PIECE, BlobStore, FolderBlobs
from service.settings import Settings

#: Of a server that `scripts/object-store` started, with a bucket `clips`; any key opens it.
ENDPOINT = os.environ.get("OBJECT_STORE_ENDPOINT", "")


def s3_settings(endpoint: str = ENDPOINT) -> Settings:
    """For the bucket of `scripts/object-store`."""
    return Settings(
        object_store="s3://clips/some/where",
        object_store_endpoint=endpoint,
        object_store_region="us-east-1",
        object_store_key_id="any",
        object_store_secret="any",
    )


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    settings = s3_settings() if request.param == "s3" else Settings(object_store=f"file://{tmp_path}")
    store = blob_store.blob_store(settings)
    assert store is not None
    return store


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def read(blobs: BlobStore, name: str, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in blobs.get(name, start, stop)])


async def test_what_is_put_is_read_in_any_range_and_replaced(blobs: BlobStore) -> None:
    data = bytes(range(256)) * (2 * PART // 256 + 3)
    await blobs.put("clip/large", pieces(data[:1000], data[1000:PART], data[PART:]))
    assert await read(blobs, "clip/large", 0, len(data)) == data
    assert await read(blobs, "clip/large", PART - 3, PART + 3) == data[PART - 3 : PART + 3]
    await blobs.put("clip/large", pieces(b"small"))
    assert await read(blobs, "clip/large", 0, 5) == b"small"
    await blobs.remove(await blobs.names("clip"))


async def test_names_are_of_one_prefix_and_removed_for_good(blobs: BlobStore) -> None:
    for name in ("one/b", "one/k0-1", "two/b"):
        await blobs.put(name, pieces(b"x"))
    assert sorted(await blobs.names("one")) == ["one/b", "one/k0-1"]
    await blobs.remove(await blobs.names("one"))
    await blobs.remove(["one/b"])
    assert (await blobs.names("one"), await blobs.names("two")) == ([], ["two/b"])
    with pytest.raises(NotFound):
        await read(blobs, "one/b", 0, 1)
    await blobs.remove(["two/b"])


async def test_an_upload_that_breaks_off_leaves_nothing(blobs: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * PART
        raise NotFound("the clip was deleted while it was read")

    with pytest.raises((NotFound, Unavailable)):
        await blobs.put("clip/b", broken())
    assert await blobs.names("clip") == []


@pytest.mark.parametrize("verb", ["open", "write", "replace"])
async def test_whoever_is_cancelled_during_an_upload_leaves_the_whole_of_it_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Cancelled while a thread is at it; a file that stays open is a ResourceWarning, which fails the test."""
    begun, may_end = threading.Event(), threading.Event()

    def at_the_door(work: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*args: Any, **named: Any) -> Any:
            begun.set()
            may_end.wait(60)
            return work(*args, **named)

        return waits

    if verb == "write":
        opened = Path.open

        def open_slow_file(path: Path, mode: str) -> Any:
            file = opened(path, mode)
            slow = mock.Mock(wraps=file)
            slow.write = at_the_door(file.write)
            return slow

        monkeypatch.setattr(Path, "open", open_slow_file)
    else:
        monkeypatch.setattr(Path, verb, at_the_door(getattr(Path, verb)))
    upload = asyncio.ensure_future(FolderBlobs(tmp_path).put("clip/b", pieces(b"x" * PIECE)))
    await asyncio.to_thread(begun.wait, 60)
    upload.cancel()
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.wait({upload})
    monkeypatch.undo()
    gc.collect()
    assert upload.cancelled()
    left = [(path.name, path.stat().st_size) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ([("b", PIECE)] if verb == "replace" else [])


@pytest.mark.slow
async def test_a_store_that_is_away_is_told_as_unavailable() -> None:
    store = blob_store.blob_store(s3_settings(f"http://{urlsplit(ENDPOINT).hostname}:1"))
    assert store is not None
    with pytest.raises(Unavailable):
        await store.names("clip")


def test_s3_without_its_package_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ImportError, match="obstore"):
        blob_store.blob_store(s3_settings())
    assert blob_store.blob_store(Settings()) is None


@pytest.mark.parametrize(
    "text", ["bucket", "s3://", "s3://Bucket", "s3://bucket?x=1", "file://host/folder", "file:///", "http://a/b"]
)
def test_an_address_that_names_no_store_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be s3://"):
        addresses.object_store(text)
