"""Workers with different versions of the weights: a request is done by one that has its version, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service.core.errors import NotFound, Unsupported
from service.core.interfaces import ServedModel, VersionState, VersionStatus
from service.core.types import Options, PredictRequest, PredictResult, Priority
from service.distributed.broker import announcement, serialization
from service.distributed.frontend.worker_versions import WorkerVersions
from service.distributed.worker.worker import Worker
from tests.unit.distributed.conftest import Bench, metrics, until
from tests.unit.distributed.engines import MODEL, Adder, frame


class VersionedAdder(Adder):
    """Has some versions, the first as the default, and knows no other. A repository of its own, too."""

    is_named = True

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def model(self) -> ServedModel:
        return replace(MODEL, version=self.names[0])

    async def predict(self, request: PredictRequest) -> PredictResult:
        version = request.options.version or self.names[0]
        if version not in self.names:
            raise NotFound(f"version {version!r} is not loaded; there is {', '.join(self.names)}", field="version")
        return replace(await super().predict(request), model_version=version)

    def loaded(self) -> tuple[VersionStatus, ...]:
        return tuple(VersionStatus(name, VersionState.READY) for name in self.names)

    async def index(self) -> tuple[VersionStatus, ...]:
        return self.loaded()

    async def load(
        self, version: str | None = None, share: float | None = None, shadow: float | None = None
    ) -> VersionStatus:
        raise NotImplementedError

    async def unload(self, version: str) -> None:
        raise NotImplementedError


@asynccontextmanager
async def workers(bench: Bench, *engines: VersionedAdder) -> AsyncIterator[None]:
    """Run a worker for each engine; begin when the front end has seen all their versions."""
    working = [Worker(bench.settings, engine, metrics(), repository=engine) for engine in engines]
    tasks = [asyncio.create_task(worker.run()) for worker in working]
    names = {name for engine in engines for name in engine.names}
    try:
        await until(lambda: bench.front.readiness().ready and set(bench.front.announcements.versions) == names)
        yield
    finally:
        for worker in working:
            worker.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)


def asked(version: str | None, number: int = 0) -> PredictRequest:
    return PredictRequest(f"r{number}", frame(number), frame(1), Options(version=version))


async def test_a_request_finds_the_worker_that_has_its_version(bench: Bench) -> None:
    async with workers(bench, VersionedAdder("v1"), VersionedAdder("v2")):
        versions: Sequence[str | None] = ["v1", "v2"] * 4
        answers = await asyncio.gather(*(bench.engine.predict(asked(v, n)) for n, v in enumerate(versions)))
        assert [answer.model_version for answer in answers] == versions
        assert (await bench.engine.predict(asked(None))).model_version in ("v1", "v2")


async def test_a_version_that_no_worker_has_is_refused_with_those_there_are(bench: Bench) -> None:
    async with workers(bench, VersionedAdder("v1", "v2")):
        with pytest.raises(NotFound, match="no worker has version 'v3'; there is v1, v2"):
            await bench.engine.predict(asked("v3"))
        repository = WorkerVersions(bench.front)
        assert [(s.name, s.is_default) for s in await repository.index()] == [("v1", True), ("v2", False)]
        assert repository.is_named
        with pytest.raises(Unsupported):
            await repository.load("v3")


def test_a_task_names_its_version_and_older_workers_leave_it_alone() -> None:
    options = Options(version="v2")
    data = serialization.task_bytes(options, Priority.LIVE, "ann", None)
    assert serialization.read_task(data)[0] == options
    assert b"version" not in serialization.task_bytes(Options(), Priority.LIVE, "ann", None)


def test_an_announcement_tells_the_versions_and_one_without_has_its_model_s() -> None:
    data = announcement.info_bytes(MODEL, 0.5, versions=("v1", "v2"), is_named=True)
    assert announcement.read_versions(data) == (("v1", "v2"), True)
    assert announcement.read_info(data) == (MODEL, 0.5)
    assert announcement.read_versions(announcement.info_bytes(MODEL, None)) == ((MODEL.version,), False)
    assert announcement.read_dialect(data) == serialization.dialect(("v2", "v1")) != serialization.dialect()
