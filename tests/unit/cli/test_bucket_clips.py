"""Clips of a bucket, handed to a service by the command line: a folder stands for the bucket here.

`make object-store` asks a real S3 server, too.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.cli import clip_server, remote_video
from service.cli.clip_inputs import S3Bucket
from service.cli.video import main
from service.serving.video.clip import VideoError
from service.settings import Settings
from tests.unit.cli.test_remote_video import KEY, served
from tests.unit.distributed.broker.test_blob_store import s3_settings
from tests.unit.serving.video.clips import moving, y4m


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_server, "SHORTEST_S", 0.01)


@dataclass
class Place:
    """A bucket's prefix with clips in it, and what was fetched from it."""

    address: str
    settings: Settings
    folder: Path
    store: Any = None
    bucket: Any = None  #: opens an address
    fetched: list[str] = field(default_factory=list)

    def put(self, name: str, data: bytes) -> None:
        if self.store is not None:
            import obstore

            obstore.put(self.store, f"films/{name}", data)
        else:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


@dataclass
class FolderBucket:
    """A folder as a `ClipBucket`; a tag is a hash of the bytes."""

    address: str
    folder: Path

    def tags(self) -> dict[str, str]:
        if self.folder.is_file():
            return {"": str(hash(self.folder.read_bytes()))}
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): str(hash(path.read_bytes())) for path in files}

    def fetch(self, name: str, tag: str) -> Iterator[bytes]:
        if self.tags()[name] != tag:
            raise VideoError("it was changed after it was listed; run this again")
        yield (self.folder / name).read_bytes()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    prefix = uuid.uuid4().hex
    place = Place(f"s3://clips/{prefix}/films", Settings(), tmp_path / "bucket" / "films")
    if request.param == "s3":
        from service.object_store import s3_store

        place.settings = s3_settings()
        place.store = s3_store("clips", place.settings, prefix)
        kind: Any = S3Bucket
    else:

        def kind(address: str, settings: Settings) -> FolderBucket:
            return FolderBucket(address, tmp_path / "bucket" / address.partition(f"{prefix}/")[2])

    def made(address: str, settings: Settings) -> Any:
        bucket = kind(address, settings)
        fetch = bucket.fetch

        def counted(name: str, tag: str) -> Iterator[bytes]:
            place.fetched.append(name)
            yield from fetch(name, tag)

        bucket.fetch = counted
        return bucket

    place.bucket = made
    monkeypatch.setattr(remote_video, "S3Bucket", made)
    for seed, name in enumerate(("a.y4m", "b.y4m", "old/c.y4m")):
        place.put(name, y4m(moving(5, seed=seed)))
    place.put("notes.txt", b"no clip")
    return place


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    return path


async def command(place: Place, *words: object) -> int:
    return await asyncio.to_thread(main, [str(word) for word in words], place.settings)


async def test_clips_below_an_address_are_made_and_not_fetched_again(
    place: Place, tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = (place.address, "-o", out, "--every", 2, "--key-file", key_file)
    async with served() as (url, engine):
        assert await command(place, *words, "--server", url) == 0
        files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
        assert files == [".dmvfn-clips.json", "a.y4m", "b.y4m", "old/c.y4m"], "what was fetched is gone"
        assert "3 of 3 clips" in capsys.readouterr().err
        assert await command(place, *words, "--server", url) == 0
        assert (sorted(place.fetched), len(engine.requests)) == (["a.y4m", "b.y4m", "old/c.y4m"], 3)
        place.put("b.y4m", y4m(moving(5, seed=9)))
        assert await command(place, *words, "--server", url) == 0
        assert (place.fetched[3:], len(engine.requests)) == (["b.y4m"], 4), "but a clip that has changed is"


async def test_one_object_becomes_one_file(place: Place, tmp_path: Path, key_file: Path) -> None:
    out = tmp_path / "made" / "one.y4m"
    async with served() as (url, _):
        words = (f"{place.address}/old/c.y4m", "-o", out, "--every", 2, "--key-file", key_file, "--server", url)
        assert await command(place, *words) == 0
    assert out.read_bytes().startswith(b"YUV4MPEG2")


async def test_an_address_without_clips_or_a_changed_one_is_told_in_one_line(
    place: Place, tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served() as (url, _):
        more = ("-o", tmp_path / "out", "--every", 2, "--key-file", key_file, "--server", url)
        assert await command(place, f"{place.address}/nothing", *more) == 1
    assert "holds no clips" in capsys.readouterr().err
    bucket = place.bucket(place.address, place.settings)
    clip = next(clip for clip in remote_video.clips_in(bucket, tmp_path) if clip.name == "a.y4m")
    place.put("a.y4m", y4m(moving(7)))
    with pytest.raises(VideoError, match="changed"), clip.source.on_disk(tmp_path):
        pass
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("address", ["s3://", "s3://Bucket/films", "s3://bucket/films?x=1"])
def test_an_address_that_names_no_bucket_is_refused(address: str) -> None:
    with pytest.raises(VideoError, match="must be s3://"):
        S3Bucket(address, Settings())
