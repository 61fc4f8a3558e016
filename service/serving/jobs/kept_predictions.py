"""Predicts a clip's frames but those that a process before kept, and keeps them range by range for the next one.

A prediction is known again by what it was made from, so the order in which frames come does not matter, and one that
was not kept is made once more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.core.types import Frame, PredictResult
from service.serving.jobs.clip_queue import ClipLease, KeptPrediction
from service.serving.video.frame_prediction import ClipPredictors
from service.telemetry.clip_counts import ClipCounts

#: Frames of a range, and bytes of their pixels: what is lost with a process, and held by one, at most.
RANGE_FRAMES, RANGE_BYTES = 16, 32 * 2**20
#: Ranges held at once while they are read back.
RANGES_HELD = 3


@dataclass(frozen=True, slots=True, eq=False)
class _HeldRange:
    """One range that was read back, and the digests that nobody has asked for yet."""

    results: dict[bytes, PredictResult]
    unused: set[bytes]


class KeptPredictions:
    """`by_steps` and `by_moments` in the place of other predictors, for one leased clip."""

    def __init__(self, lease: ClipLease, predictors: ClipPredictors, counts: ClipCounts) -> None:
        self._lease, self._predictors, self._counts = lease, predictors, counts
        self._held: list[_HeldRange] = []  #: ranges read back, oldest first
        self._following = 0  #: the next range to read
        self._before = lease.ranges
        self._finished: list[KeptPrediction] = []
        self._lock = asyncio.Lock()

    async def by_steps(self, previous: Frame, current: Frame, steps: int) -> PredictResult:
        """Return the last of `steps` frames, kept or predicted now."""

        async def predict() -> PredictResult:
            result = await self._predictors.steps(previous, current, steps)
            return dataclasses.replace(result, steps=result.steps[-1:])

        return await self._once(previous, current, str(steps), predict)

    async def by_moments(self, previous: Frame, current: Frame, times: tuple[float, ...]) -> PredictResult:
        """Return the frames of `times`, kept or predicted now."""
        return await self._once(
            previous, current, repr(times), lambda: self._predictors.moments(previous, current, times)
        )

    async def _once(
        self, previous: Frame, current: Frame, key: str, predict: Callable[[], Awaitable[PredictResult]]
    ) -> PredictResult:
        digest = await asyncio.to_thread(_digest, previous, current, key)
        if (stored := await self._kept(digest)) is not None:
            self._counts.frames(len(stored.steps), were_kept=True)
            return stored
        result = await predict()
        self._counts.frames(len(result.steps), were_kept=False)
        await self._keep(digest, result)
        return result

    async def _kept(self, digest: bytes) -> PredictResult | None:
        async with self._lock:
            while True:
                for entry in self._held:
                    if (result := entry.results.get(digest)) is not None:
                        entry.unused.discard(digest)
                        return result
                # Frames are asked for in about the order in which they were kept: what lies far ahead is not read yet.
                if len(self._held) >= RANGES_HELD and self._held[0].unused:
                    return None
                if self._following >= self._before:
                    return None
                results = dict(await self._lease.read_range(self._following))
                self._held = [*self._held, _HeldRange(results, set(results))][-RANGES_HELD:]
                self._following += 1

    async def _keep(self, digest: bytes, result: PredictResult) -> None:
        self._finished.append((digest, result))
        sizes = [step.frame.pixels.nbytes for _, prediction in self._finished for step in prediction.steps]
        if len(sizes) < RANGE_FRAMES and sum(sizes) < RANGE_BYTES:
            return
        predictions, self._finished = self._finished, []
        if not await self._lease.keep_range(predictions):
            self._counts.range_unkept()


def _digest(previous: Frame, current: Frame, key: str) -> bytes:
    digest = hashlib.blake2b(f"{previous.pixels.shape} {key} ".encode(), digest_size=16)
    digest.update(previous.pixels.data.cast("B"))
    digest.update(current.pixels.data.cast("B"))
    return digest.digest()
