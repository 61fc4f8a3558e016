"""Makes clips that wait in a queue which other processes share, a few at once, each from its body to its result.

A clip's frames go to the engine as background work. What is predicted is kept range by range, so that whoever takes a
clip over goes on from there. Knows neither Redis nor a transport.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, aclosing
from dataclasses import replace

from service.core.errors import Internal, ServiceError
from service.serving.accepted_work import AcceptedWork
from service.serving.jobs.clip_queue import ClipLease, ClipQueue
from service.serving.jobs.job import PASSING, Failure
from service.serving.jobs.kept_predictions import KeptPredictions
from service.serving.video.clip_disk import ClipFile
from service.serving.video.clip_places import JOBS_AT_ONCE
from service.serving.video.clip_resources import ClipResources
from service.serving.video.frame_prediction import ClipPredictors
from service.serving.video.output_frames import VideoParams
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds between two looks for a clip, where nothing tells of one.
LOOK_S = 1.0
#: Predictions of one clip under way: enough for several workers to have a batch each.
UNDER_WAY = 12
#: Seconds after which a clip that found no room or no queue is taken again.
AGAIN_S = 5.0


class ClipMakers:
    """Takes clips of `queue` while `run` runs; at most JOBS_AT_ONCE, and of one holder one."""

    def __init__(self, queue: ClipQueue, resources: ClipResources, work: AcceptedWork, metrics: Metrics) -> None:
        self._queue, self._resources, self._work, self._metrics = queue, resources, work, metrics
        self._making: dict[asyncio.Task[None], str] = {}  #: -> the holder of its clip

    async def run(self) -> None:
        """Make clips until cancelled; those under way are then given back, uncounted."""
        try:
            while not self._work.stopping.is_set():
                if len(self._making) < JOBS_AT_ONCE and (lease := await self._take()) is not None:
                    # owned: by this object, which ends it with itself; _make catches all
                    task = asyncio.create_task(self._make(lease))
                    self._making[task] = lease.clip.holder
                    task.add_done_callback(self._making.pop)
                    continue
                await self._idle()
            await self.stop()
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Give back what is being made."""
        tasks = list(self._making)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self) -> ClipLease | None:
        try:
            return await self._queue.take(set(self._making.values()))
        except ServiceError:  # Redis is away, or full
            return None

    async def _idle(self) -> None:
        """Wait until clips may have come, or the process stops."""
        # awaited: below, whatever happens
        waits = [asyncio.ensure_future(self._queue.wait(LOOK_S)), asyncio.ensure_future(self._work.stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _make(self, lease: ClipLease) -> None:
        if lease.runs > 1:
            self._metrics.clips.taken_over()
        converting = asyncio.ensure_future(self._convert(lease))  # awaited below
        losing = asyncio.ensure_future(lease.lost.wait())  # awaited below
        try:
            await asyncio.wait({converting, losing}, return_when=asyncio.FIRST_COMPLETED)
            if converting.done():
                await converting
            else:
                log.info("a clip is no longer this process's to make", extra={"job": lease.clip.id})
        except asyncio.CancelledError:
            await lease.give_back(is_counted=False, delay_s=0.0)
            raise
        except ServiceError as error:
            await self._failed(lease, error)
        except Exception:
            log.exception("a clip failed", extra={"job": lease.clip.id})
            await self._failed(lease, Internal("internal error; the log has the cause under this clip's id"))
        finally:
            for task in (converting, losing):
                task.cancel()
            await asyncio.gather(converting, losing, return_exceptions=True)

    async def _failed(self, lease: ClipLease, error: ServiceError) -> None:
        """End the clip, or leave it to another try where the cause may pass."""
        try:
            if error.code in PASSING:
                await lease.give_back(is_counted=False, delay_s=error.retry_after or AGAIN_S)
            elif error.code == "deadline_exceeded":
                await lease.give_back(is_counted=True, delay_s=AGAIN_S)
            else:
                await lease.fail(Failure.of(error))
                self._metrics.clips.ended("failed")
        except ServiceError as gone:
            log.info("a clip's end is not told: %s", gone, extra={"job": lease.clip.id})

    async def _convert(self, lease: ClipLease) -> None:
        clip = lease.clip
        with ExitStack() as files:
            body = self._open(clip.holder, files, spooled=True)
            result = self._open(clip.holder, files)
            async with aclosing(lease.body()) as pieces:
                async for piece in pieces:
                    await body.write(piece)
            order = clip.order
            if isinstance(order.params, VideoParams):  # of others each prediction has many frames already
                order = replace(order, params=replace(order.params, under_way=UNDER_WAY))
            conversion = self._resources.conversion(order, clip.sharer, body, patient=True)
            predictions = KeptPredictions(lease, conversion.predictors, self._metrics.clips)
            conversion.predictors = ClipPredictors(predictions.by_steps, predictions.by_moments)
            async with aclosing(conversion.pieces()) as pieces:
                async for piece in pieces:
                    await result.write(piece)
                    lease.report(conversion.progress(), conversion.notes)
            lease.report(conversion.progress(), conversion.notes)
            await lease.finish(result)
            self._metrics.clips.ended("done")

    def _open(self, holder: str, files: ExitStack, *, spooled: bool = False) -> ClipFile:
        # As one more caller: a clip that was accepted elsewhere must not wait for what its owner keeps here.
        file = self._resources.disk.open(f"making {holder}", spooled=spooled)
        files.callback(file.drop)
        return file
