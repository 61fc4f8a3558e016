"""Loads and unloads versions of the weights while the service runs: read, built, warmed up, then made the default.

Implements `service.core.interfaces.ModelRepository` for one device. What is asked of a version that is replaced is
answered by it to the end; then it is freed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from model.checkpoint import CheckpointError
from service.core.errors import Conflict, Internal, InvalidRequest, NotFound, ServiceError, Unavailable, Unsupported
from service.core.interfaces import ServedModel, VersionState, VersionStatus
from service.core.substitute import Substitute
from service.core.types import PredictRequest, PredictResult
from service.engine.device import Device
from service.engine.versions.shadowing import Shadowing, seconds_per_pixel
from service.engine.versions.share_trial import ShareTrial
from service.engine.versions.source import PreparedVersion, VersionSource
from service.engine.versions.version_table import VersionRow, VersionTable
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds that a load waits for room, while a version that was replaced answers what it was asked.
ROOM_S = 60.0


class Installer(Protocol):
    """The device thread, as versions need it: it reports there."""

    def install(
        self, number: int, like: int, build: Callable[[], Device], report: Callable[[ServedModel | Exception], None]
    ) -> None:
        """Have a device built and warmed up beside what runs."""
        ...

    def remove(self, number: int, report: Callable[[], None]) -> None:
        """Have a device freed."""
        ...


class VersionRepository:
    """The versions on one device. Used by one event loop; loads follow one another."""

    def __init__(
        self,
        source: VersionSource | None,
        thread: Installer,
        on_loop: Callable[..., None],
        metrics: Metrics,
        most: int,
        predict: Callable[[PredictRequest], Awaitable[PredictResult]],
    ) -> None:
        """Take where versions come from (None: there is only the first), and the most to have loaded at once.

        `on_loop` calls what it is given, with its arguments, on the event loop. `predict` answers a request by the
        version that it names.
        """
        self._source, self._thread, self._metrics, self._most = source, thread, metrics, most
        self._on_loop = on_loop
        self.table = VersionTable()
        self._shadowing = Shadowing(predict, metrics.versions)
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._retiring: dict[str, asyncio.Task[None]] = {}

    @property
    def is_named(self) -> bool:
        """Tell whether versions have names of their own, as files of a directory."""
        return self._source is not None and self._source.is_named

    def loaded(self) -> tuple[VersionStatus, ...]:
        """List the versions that are loaded, or about to be, the default first."""
        return self.table.loaded()

    async def index(self) -> tuple[VersionStatus, ...]:
        """List all versions, loaded or not, the oldest first; what is loaded and has no file any more comes last."""
        by_name = {status.name: status for status in self.loaded()}
        names = await asyncio.to_thread(self._source.names) if self._source is not None else []
        order = [*names, *(name for name in by_name if name not in names)]
        return tuple(by_name.get(name) or VersionStatus(name, VersionState.UNAVAILABLE) for name in order)

    async def load(
        self, version: str | None = None, share: float | None = None, shadow: float | None = None
    ) -> VersionStatus:
        """Load a version as `ModelRepository.load` does. Goes on where its caller leaves."""
        if self._source is None:
            raise Unsupported("this process loads no versions")
        return await asyncio.shield(self._spawn(self._load(self._source, version, share, shadow)))

    async def unload(self, version: str) -> None:
        """Unload a version as `ModelRepository.unload` does. Goes on where its caller leaves."""
        await asyncio.shield(self._spawn(self._unload(version)))

    def begin(self, model: ServedModel) -> None:
        """Take the version that the device started with: the default."""
        self.table.finish(self.table.begin(model.version, model.sha256), model)
        self._describe(model)

    def record(self, row: VersionRow, request: PredictRequest, outcome: PredictResult | ServiceError) -> None:
        """Note how a request ended, where a version has a share; take the share back where it does worse.

        Where a version shadows the default, have it answer again what the default has.
        """
        if self.table.shadow is not None and row is self.table.default and isinstance(outcome, PredictResult):
            self._shadowing.consider(self.table.shadow, request, outcome)
        if (trial := self.table.trial) is None or request.options.version is not None:
            return
        if not isinstance(outcome, (PredictResult, Internal)):
            return  # a deadline, a full queue: no version's fault
        seconds = None
        if isinstance(outcome, PredictResult):
            if outcome.is_cut or Substitute.of(outcome) is Substitute.SHIFTED:
                return  # nothing was predicted
            seconds = seconds_per_pixel(request, outcome)
        if trial.record(row.name, seconds):
            self._end_share(trial)

    @property
    def wants_scores(self) -> bool:
        """Tell whether a version has a share, which its scores may end."""
        return self.table.trial is not None and self.table.trial.share > 0

    def record_score(self, version: str, gain_db: float) -> None:
        """Note how good a prediction was, as `service.core.interfaces.VersionScores`; it may end a share, too."""
        trial = self.table.trial
        if trial is None or version not in (trial.name, self.table.default.name):
            return
        if trial.record_score(version, gain_db):
            self._end_share(trial)

    def _end_share(self, trial: ShareTrial) -> None:
        log.error("version %s gets no share any more: %s", trial.name, trial.reason)
        self._metrics.versions.share_returned()

    def close(self) -> None:
        """End loads, drains and comparisons under way."""
        self._shadowing.close()
        for task in self._tasks:
            task.cancel()

    # --- loading ----------------------------------------------------------------------------------------------------

    async def _load(
        self, source: VersionSource, version: str | None, share: float | None, shadow: float | None
    ) -> VersionStatus:
        async with self._turn:
            try:
                candidate = await asyncio.to_thread(source.prepare, version)
            except (CheckpointError, OSError) as error:
                raise InvalidRequest(str(error), field="version") from error
            if version is not None and candidate.name != version:
                raise NotFound(f"there is no version {version[:80]!r}; there is {candidate.name}", field="version")
            if (retiring := self._retiring.get(candidate.name)) is not None:
                await asyncio.wait({retiring}, timeout=ROOM_S)
                if not retiring.done():
                    raise Unavailable(f"version {candidate.name} is being unloaded", reason="loading", retry_after=1.0)
            row = self.table.get(candidate.name)
            if row is not None and row.sha256 != candidate.sha256:
                raise Conflict(
                    f"version {candidate.name} is loaded from other bytes; new weights need a version of their own"
                )
            row = row or await self._install(candidate)
            if share is not None or shadow is not None:
                if shadow and row is self.table.default:
                    raise Conflict(f"version {row.name} is the default; it cannot shadow itself")
                self.table.give_share(row, share or 0.0)
                self.table.give_shadow(row, shadow or 0.0)
            elif row is not self.table.default:
                before = self.table.make_default(row)
                log.info("version %s is the default now; %s is unloaded", row.name, before.name)
                self._retire(before)
            return next(status for status in self.loaded() if status.name == row.name)

    async def _install(self, candidate: PreparedVersion) -> VersionRow:
        await self._make_room()
        like = self.table.default.number
        row = self.table.begin(candidate.name, candidate.sha256)
        report: asyncio.Future[ServedModel | Exception] = asyncio.get_running_loop().create_future()
        try:
            self._thread.install(row.number, like, candidate.build, partial(self._on_loop, _answer, report))
            result = await report
            if isinstance(result, Exception):
                raise InvalidRequest(f"version {row.name} cannot be loaded: {result}", field="version") from result
        except BaseException:
            self.table.drop(row)
            self._metrics.versions.loaded(succeeded=False)
            raise
        self.table.finish(row, result)
        self._describe(result)
        self._metrics.versions.loaded(succeeded=True)
        return row

    async def _make_room(self) -> None:
        if len(self.table) >= self._most and self._retiring:
            await asyncio.wait(self._retiring.values(), timeout=ROOM_S, return_when=asyncio.FIRST_COMPLETED)
        if len(self.table) < self._most:
            return
        names = ", ".join(row.name for row in self.table)
        if self._retiring:
            raise Unavailable(f"{names} are loaded, one to be unloaded", reason="loading", retry_after=ROOM_S)
        raise Conflict(f"{names} are loaded, and at most {self._most} may be (DMVFN_MAX_VERSIONS): unload one")

    # --- unloading --------------------------------------------------------------------------------------------------

    async def _unload(self, version: str) -> None:
        async with self._turn:
            row = self.table.get(version)
            if row is None:
                raise NotFound(f"version {version[:80]!r} is not loaded", field="version")
            if row is self.table.default:
                raise Conflict(f"version {version} is the default; load another one in its place first")
            task = self._retiring.get(version) or self._retire(row)
        await task

    def _retire(self, row: VersionRow) -> asyncio.Task[None]:
        """Take nothing new for a version, and free it once nothing is in flight."""
        self.table.retire(row)
        task = self._retiring[row.name] = self._spawn(self._free(row))
        return task

    async def _free(self, row: VersionRow) -> None:
        loop = asyncio.get_running_loop()
        idle: asyncio.Future[None] = loop.create_future()
        removal: asyncio.Future[None] = loop.create_future()
        row.on_idle = lambda: _answer(idle, None)
        row.notify_idle()
        try:
            await idle
            self._thread.remove(row.number, partial(self._on_loop, _answer, removal, None))
            await removal
        finally:
            self.table.drop(row)
            self._retiring.pop(row.name, None)
        self._metrics.deferred.settle()  # what it predicted is counted before its label goes
        if row.model is not None:
            self._metrics.model_gone(
                version=row.name, sha256=row.sha256, device=row.model.device, dtype=row.model.dtype
            )

    # --- tasks ------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)  # owned: by _tasks until it ends; awaited by its caller, or ended by `close`
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: its caller, if it is still there, is told

    def _describe(self, model: ServedModel) -> None:
        self._metrics.model(version=model.version, sha256=model.sha256, device=model.device, dtype=model.dtype)


def _answer(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
