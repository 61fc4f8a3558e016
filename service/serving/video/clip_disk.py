"""The disk that clips take: bodies that came in and clips that were made, each counted while it grows.

One clip may have half of the limit, one caller three quarters, all together the whole of it. When another caller needs
room, what can be given up goes first: fetched and failed clips, then the oldest finished one of whoever has most.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import BinaryIO, cast

from service.core.errors import NotFound, QueueFull, ServiceError, TooLarge
from service.thread_work import run_to_end

log = logging.getLogger("service.rest")

#: What is said where no more can be kept: the disk is full, its owner has used up what is theirs, or there are as many
#: open files as may be. Of a disk that was full when Python looked for a folder it says that there is none.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOENT)
#: Bytes of a file kept in memory before it goes to the disk.
SPOOL = 4 * 2**20
#: Bytes of a clip read at once for an answer.
PIECE = 2**20
#: Seconds after which a refused caller may ask again: others must fetch or delete what they have.
RETRY_S = 30.0


class DiskFull(QueueFull):
    """The machine takes no more, whatever this service's limits say."""


class ClipDisk:
    """At most `limit` bytes of files, shared by callers (names: an API key's, or an address)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._files: list[ClipFile] = []  #: oldest first

    @property
    def one_clip(self) -> int:
        """Return the bytes that one clip may take."""
        return self.limit // 2

    @property
    def held(self) -> int:
        """Sum the bytes of all files."""
        return sum(file.nbytes for file in self._files)

    def open(self, caller: str, *, spooled: bool = False) -> ClipFile:
        """Open a new file, empty. `spooled`: in memory while it is small; then it has no `pieces`.

        Raises DiskFull.
        """
        with _refusing_when_full():
            # Closed by `drop`.
            file = tempfile.SpooledTemporaryFile(SPOOL) if spooled else _Nameless()  # noqa: SIM115
        clip = ClipFile(self, caller, cast(BinaryIO, file))
        self._files.append(clip)
        return clip

    def reserve(self, file: ClipFile, count: int) -> None:
        """Count `count` more bytes of `file`. TooLarge beyond `one_clip`; QueueFull where there is no room."""
        if file.nbytes + count > self.one_clip:
            raise TooLarge(f"a clip may take at most {self.one_clip} bytes", field="body")
        share = self.limit * 3 // 4
        while self._of(file.caller) + count > share:
            self._give_up(self._expendable(file.caller), f"your clips may take {share} bytes together")
        while self.held + count > self.limit:
            victim = self._expendable() or self._of_the_largest(self._of(file.caller) + count)
            self._give_up(victim, "the clips of all callers take as many bytes as they may")
        file.nbytes += count

    def forget(self, file: ClipFile) -> None:
        """Stop counting the file's bytes."""
        if file in self._files:
            self._files.remove(file)

    def _of(self, caller: str) -> int:
        return sum(file.nbytes for file in self._files if file.caller == caller)

    def _expendable(self, caller: str | None = None) -> ClipFile | None:
        """Find the oldest file that nobody is likely to miss, of this caller or of all."""
        return next((f for f in self._files if f.expendable() and caller in (None, f.caller)), None)

    def _of_the_largest(self, least: int) -> ClipFile | None:
        """Find the oldest file to give up of the caller who has most, if that is more than `least` bytes."""
        totals: Counter[str] = Counter()
        for file in self._files:
            totals[file.caller] += file.nbytes
        for caller, nbytes in totals.most_common():
            if nbytes <= least:
                return None
            victim = next((f for f in self._files if f.caller == caller and f.give_up is not None), None)
            if victim is not None:
                return victim
        return None

    def _give_up(self, victim: ClipFile | None, why: str) -> None:
        if victim is None or victim.give_up is None:
            raise QueueFull(f"{why}; take results and delete them", retry_after=RETRY_S)
        victim.give_up()


class ClipFile:
    """One file. `give_up`, where it is set, lets go of it for another caller's sake."""

    def __init__(self, disk: ClipDisk, caller: str, file: BinaryIO) -> None:
        self._disk = disk
        self.caller = caller
        self.file = file
        self.nbytes = 0
        self.dropped = False
        self.give_up: Callable[[], None] | None = None
        self.expendable: Callable[[], bool] = lambda: False

    async def write(self, data: bytes) -> None:
        """Append. Errors as `ClipDisk.reserve`; DiskFull; QueueFull if the file was given up meanwhile."""
        if not self.dropped:
            self._disk.reserve(self, len(data))
        try:
            with _refusing_when_full():
                await run_to_end(partial(self._append, data))
        except ValueError:  # closed
            raise QueueFull("this clip was given up: others need its room", retry_after=RETRY_S) from None

    def _append(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()  # that there is no room is told here, not to whoever reads

    async def read_at(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`, fewer at its end; one reader at a time. NotFound if it was dropped."""
        try:
            return await run_to_end(partial(self._read, start, count))
        except ValueError:  # closed
            raise NotFound("the clip was deleted while it was read", field="job") from None

    def _read(self, start: int, count: int) -> bytes:
        if isinstance(self.file, _Nameless):
            return os.pread(self.file.fileno(), count, start)
        self.file.seek(start)
        return self.file.read(count)

    async def pieces(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield its bytes from `start` to `stop` (None: all), a piece at a time; any number of readers.

        Raises NotFound if the file is dropped on the way.
        """
        if self.dropped:
            raise NotFound("the clip was deleted before it was read", field="job")
        # The reader's own: by the time it reads, the file's number may be another file's.
        descriptor, end, at = os.dup(self.file.fileno()), self.nbytes if stop is None else stop, start
        try:
            while at < end:
                piece = await run_to_end(partial(os.pread, descriptor, min(PIECE, end - at), at))
                if not piece:
                    raise NotFound("the clip was deleted while it was read", field="job")
                at += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    def drop(self) -> None:
        """Let go of the bytes at once, readers or not."""
        if self.dropped:
            return
        self.dropped = True
        self._disk.forget(self)
        # A slow reader's descriptor would keep the bytes on the disk. Both first write what a full disk did not take.
        with contextlib.suppress(OSError):
            self.file.truncate(0)
        with contextlib.suppress(OSError):
            self.file.close()


class _Nameless:
    """A temporary file that has no name and no buffer: what is written can be read at once. For any thread.

    Forgotten, it closes itself without a warning, unlike Python's own: kept clips end with the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1  # should there be no file
        with tempfile.TemporaryFile() as file:
            self._descriptor = os.dup(file.fileno())

    def write(self, data: bytes) -> int:
        """Append all of it. ValueError if the file is closed."""
        view = memoryview(data)
        # Held against close(): the number could be another file's by then.
        with self._lock:
            while view:
                view = view[os.write(self.fileno(), view) :]
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def fileno(self) -> int:
        """Return the descriptor's number. ValueError if it is closed."""
        if self._descriptor < 0:
            raise ValueError("the file is closed")
        return self._descriptor

    def truncate(self, size: int) -> int:
        """Cut off what is beyond `size` bytes, for every reader."""
        os.truncate(self.fileno(), size)
        return size

    def close(self) -> None:
        """Let go of the file; again does nothing."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def _refusing_when_full() -> Iterator[None]:
    """Raise DiskFull, and tell the operator, where the system says that there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        log.warning("no room for clips: %s", error)
        raise DiskFull("the server has no room for more clips now", retry_after=RETRY_S) from error


def failed_for_room(error: ServiceError) -> ServiceError:
    """Return TooLarge for a clip that found no room for its bytes: later it would find no more. A full disk may."""
    if isinstance(error, DiskFull):
        return error
    return TooLarge(f"the clip does not fit: {error.message}", field="body")
