"""Clips on a disk that the rest of the machine has filled."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.core.errors import TooLarge
from service.serving.video import clip_disk
from service.serving.video.clip_disk import ClipDisk, ClipFile, DiskFull, failed_for_room

#: A device that takes no byte, as a full disk.
FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")


@pytest.fixture(params=["buffered", "unbuffered"])
def on_full_disk(request: pytest.FixtureRequest) -> Iterator[ClipFile]:
    source: Any = FULL.open("r+b", buffering=-1 if request.param == "buffered" else 0)
    file = ClipFile(ClipDisk(2**20), "ann", source)
    yield file
    file.drop()


async def test_a_full_disk_is_told_to_whoever_writes_and_to_the_operator(
    on_full_disk: ClipFile, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DiskFull, match="no room") as refused:
        await on_full_disk.write(b"some of a clip")
    assert refused.value.retry_after == clip_disk.RETRY_S
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_what_a_full_disk_did_not_take_is_let_go_of(on_full_disk: ClipFile) -> None:
    with pytest.raises(DiskFull):
        await on_full_disk.write(b"some of a clip")
    on_full_disk.drop()
    assert on_full_disk.file.closed
    assert on_full_disk._disk.held == 0


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EMFILE, DiskFull), (errno.ENOENT, DiskFull), (errno.EIO, OSError)],
)
async def test_a_disk_without_room_for_one_more_file_is_full(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "as the system says")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(kind):
        ClipDisk(2**20).open("ann")


def test_a_clip_fails_for_good_only_where_our_own_limits_are_in_its_way() -> None:
    full = DiskFull("full", retry_after=1.0)
    assert failed_for_room(full) is full
    assert isinstance(failed_for_room(TooLarge("more than half")), TooLarge)
