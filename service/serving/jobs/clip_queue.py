"""Says how a process takes clips from a queue that others share, and what it tells the queue while it makes one.

Implemented over Redis by `service.distributed.frontend.clip_queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Protocol

from service.core.types import PredictResult
from service.serving.jobs.clip_jobs import NewClip
from service.serving.jobs.job import Failure
from service.serving.video.clip_disk import ClipFile

#: A prediction that is kept: the digest of what it was made from, and the result.
KeptPrediction = tuple[bytes, PredictResult]


class ClipLease(Protocol):
    """One clip, this process's to make until `lost` is set. Every verb but `give_back` may raise Unavailable."""

    clip: NewClip
    lost: asyncio.Event  #: it is another's to make, was deleted, or nobody can tell
    runs: int  #: times that it was begun, this one included
    ranges: int  #: ranges of predicted frames that are kept

    def body(self) -> AsyncGenerator[bytes, None]:
        """Yield the clip as it was sent. Raises NotFound if it is gone."""
        ...

    def report(self, done: int, notes: tuple[str, ...]) -> None:
        """Note how many frames are written, and what is left out; told with the next renewal."""
        ...

    async def read_range(self, number: int) -> list[KeptPrediction]:
        """Return a kept range; nothing where it is gone or another release wrote it."""
        ...

    async def keep_range(self, predictions: Sequence[KeptPrediction]) -> bool:
        """Keep the next range; False where there is no room for it."""
        ...

    async def finish(self, result: ClipFile) -> None:
        """End it with this result. Raises TooLarge where there is no room for that, Conflict if it is another's."""
        ...

    async def fail(self, failure: Failure) -> None:
        """End it with an error. Raises Conflict if it is another's."""
        ...

    async def give_back(self, *, is_counted: bool, delay_s: float) -> None:
        """Let another process make it, after `delay_s`; a run that is not counted is none of `runs`."""
        ...


class ClipQueue(Protocol):
    """Clips that wait to be made."""

    async def take(self, busy: Collection[str]) -> ClipLease | None:
        """Lease the clip whose turn it is, of none of these holders; None where there is none. Raises Unavailable."""
        ...

    async def wait(self, seconds: float) -> None:
        """Return when clips may have come, at the latest after `seconds`."""
        ...
