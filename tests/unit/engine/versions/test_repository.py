"""Versions are loaded beside each other, chosen by request, and swapped while requests come: none is lost or mixed."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.core.bucket import Bucket
from service.core.errors import Conflict, InvalidRequest, NotFound, Unavailable, Unsupported
from service.core.interfaces import VersionState
from service.core.substitute import BEFORE
from service.core.timings import Timings
from service.core.types import Method, Options, PredictRequest, PredictResult, RouteChoice, RoutePolicy, Step
from service.engine.batcher import Batcher
from service.engine.device import DeviceWork, RunOutput
from service.engine.fault_isolation import DeviceLost
from service.engine.predictor import Predictor
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import Rigged, batching, count, request, same, until
from tests.unit.engine.versions.swapping import MemorySource, swapping, versioned

#: Swaps under load: more by `make swaps`.
SWAPS = int(os.environ.get("SWAPS", "12"))
FULL = Options(route=RouteChoice(RoutePolicy.FULL))
#: One block moves the frames' pixels by a version's own weights, as nine do, in a fifth of the time.
ONE_BLOCK = Options(route=RouteChoice.parse("100000000"))


def by(version: str | None, seed: int = 0) -> PredictRequest:
    return request(seed, options=replace(FULL, version=version))


def answer_of(device: Predictor, asked: PredictRequest, like: PredictResult) -> PredictResult:
    """What a version's own device answers, alone."""
    (steps,) = device.run([DeviceWork(asked)], lambda work: True).outcomes
    assert isinstance(steps, tuple)
    return replace(like, steps=steps)


class Watched:
    """A predictor that notes the batches it runs, and takes them whole."""

    rows = 1024

    def __init__(self, real: Predictor, batches: list[tuple[str, tuple[str, ...]]]) -> None:
        self._real, self._batches = real, batches

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def run(self, works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
        self._batches.append((self._real.info.version, tuple(work.request.id for work in works)))
        return self._real.run(works, keep)


@pytest.fixture
async def two() -> AsyncIterator[Batcher]:
    """v0 as the default, v1 beside it."""
    async with swapping(MemorySource(v0=0, v1=1)) as batcher:
        await batcher.versions.load("v1", share=0.0)
        yield batcher


async def test_a_request_chooses_its_version_and_every_answer_names_its_own(two: Batcher) -> None:
    answers = [await two.predict(by(version)) for version in ("v0", "v1", None)]
    assert [answer.model_version for answer in answers] == ["v0", "v1", "v0"]
    for answer, (name, seed) in zip(answers, [("v0", 0), ("v1", 1), ("v0", 0)], strict=True):
        assert same(answer, answer_of(versioned(name, seed), by(None), answer))
    assert not same(answers[0], answers[1])


async def test_versions_never_share_a_batch() -> None:
    source, batches = MemorySource(v0=0, v1=1), list[tuple[str, tuple[str, ...]]]()
    device = Rigged(versioned("v0", 0))
    source.wrap = lambda real: Watched(real, batches)  # type: ignore[assignment,return-value]
    async with swapping(source, device) as batcher:
        await batcher.versions.load("v1", share=0.0)
        batches.clear()
        device.hold()
        first = asyncio.create_task(batcher.predict(request(9, id="first", options=FULL)))
        await until(device.entered.is_set)
        rest = [asyncio.create_task(batcher.predict(by(f"v{i % 2}", i))) for i in range(6)]
        await until(lambda: batcher.debug()["inflight"] == 7)
        device.release()
        answers = await asyncio.gather(first, *rest)
    assert [answer.model_version for answer in answers[1:]] == ["v0", "v1"] * 3
    assert {id for name, ids in batches for id in ids} == {"1", "3", "5"}
    assert {id for batch in device.batches for id in batch} == {"first", "0", "2", "4"}


async def test_a_version_that_is_not_loaded_is_refused_with_those_that_are(two: Batcher) -> None:
    with pytest.raises(NotFound, match="version 'v7' is not loaded; there is v0, v1") as caught:
        await two.predict(by("v7"))
    assert caught.value.field == "version"


async def test_swaps_under_load_lose_nothing_mix_no_batch_and_answer_by_the_version_they_name() -> None:
    source = MemorySource(v0=0)
    for seed in (1, 2):
        source.seeds[f"v{seed}"] = seed
    batches: list[tuple[str, tuple[str, ...]]] = []
    source.wrap = lambda real: Watched(real, batches)  # type: ignore[assignment,return-value]
    alone = {name: versioned(name, seed) for name, seed in source.seeds.items()}
    answers: list[tuple[PredictRequest, PredictResult]] = []
    numbers, is_over = itertools.count(), asyncio.Event()
    metrics = Metrics(CollectorRegistry())

    async def caller() -> None:
        while not is_over.is_set():
            number = next(numbers)
            asked = request(number % 5, id=str(number), options=ONE_BLOCK)
            answers.append((asked, await batcher.predict(asked)))

    async with swapping(source, Watched(versioned("v0", 0), batches), metrics) as batcher:  # type: ignore[arg-type]
        callers = [asyncio.create_task(caller()) for _ in range(6)]
        for swap in range(1, SWAPS + 1):
            status = await batcher.versions.load(f"v{swap % 3}")
            assert (status.name, status.is_default, status.state) == (f"v{swap % 3}", True, VersionState.READY)
            if swap % 100 == 0:
                print(f"{swap} swaps, {len(answers)} answers", flush=True)
        is_over.set()
        await asyncio.gather(*callers)
        await until(lambda: len(batcher.versions.loaded()) == 1)
    assert len(answers) == next(numbers)
    by_version = {name: {asked.id for asked, answer in answers if answer.model_version == name} for name in alone}
    assert sum(map(len, by_version.values())) == len(answers)
    assert all(set(ids) <= by_version[name] for name, ids in batches if "warm-up" not in ids)
    like = answers[0][1]
    expected = {
        (name, seed): answer_of(alone[name], request(seed, options=ONE_BLOCK), like)
        for name in alone
        for seed in range(5)
    }
    for asked, answer in answers:
        assert same(answer, expected[answer.model_version, int(asked.id) % 5])
    assert count(metrics, "version_loads_total", outcome="ok") == SWAPS
    longest = max(len(ids) for _, ids in batches)
    assert longest > 1
    print(f"{SWAPS} swaps, {len(answers)} answers, {len(batches)} batches of up to {longest}")


async def test_what_is_asked_of_a_replaced_version_is_answered_by_it_and_then_it_is_freed() -> None:
    device = Rigged(versioned("v0", 0))
    network = weakref.ref(device.real._network)  # type: ignore[attr-defined]
    async with swapping(MemorySource(v0=0, v1=1), device) as batcher:
        device.hold()
        running = asyncio.create_task(batcher.predict(by(None)))
        await until(device.entered.is_set)
        waiting = asyncio.create_task(batcher.predict(by("v0", 1)))
        loading = asyncio.create_task(batcher.versions.load("v1"))
        await until(lambda: len(batcher.versions.loaded()) == 2)
        device.release()
        await loading
        assert (await running).model_version == (await waiting).model_version == "v0"
        await until(lambda: [status.name for status in batcher.versions.loaded()] == ["v1"])
        assert device.freed == 1
        with pytest.raises(NotFound):
            await batcher.predict(by("v0"))
        assert (await batcher.predict(by(None))).model_version == batcher.model().version == "v1"
        del device, running, waiting
        gc.collect()
        assert network() is None


async def test_no_more_versions_are_loaded_than_may_be(two: Batcher) -> None:
    two.versions._source.seeds["v2"] = 2  # type: ignore[union-attr]
    with pytest.raises(Conflict, match="v0, v1 are loaded, and at most 2 may be"):
        await two.versions.load("v2")
    await two.versions.unload("v1")
    assert (await two.versions.load("v2")).is_default


async def test_the_default_is_not_unloaded_and_no_name_means_two_weights(two: Batcher) -> None:
    with pytest.raises(Conflict, match="v0 is the default"):
        await two.versions.unload("v0")
    two.versions._source.seeds["v1"] = 7  # type: ignore[union-attr]
    with pytest.raises(Conflict, match="other bytes"):
        await two.versions.load("v1")
    assert [status.name for status in two.versions.loaded()] == ["v0", "v1"]


async def test_the_index_lists_what_is_loaded_and_what_could_be(two: Batcher) -> None:
    two.versions._source.seeds["v2"] = 2  # type: ignore[union-attr]
    index = await two.versions.index()
    assert [(status.name, status.state, status.is_default) for status in index] == [
        ("v0", VersionState.READY, True),
        ("v1", VersionState.READY, False),
        ("v2", VersionState.UNAVAILABLE, False),
    ]


async def test_a_version_being_loaded_is_asked_for_later() -> None:
    source = MemorySource(v0=0, v1=1)
    device = Rigged(versioned("v0", 0))
    async with swapping(source, device) as batcher:
        device.hold()
        first = asyncio.create_task(batcher.predict(by(None)))
        await until(device.entered.is_set)
        loading = asyncio.create_task(batcher.versions.load("v1"))
        await until(lambda: len(batcher.versions.table) == 2)
        with pytest.raises(Unavailable, match="is being loaded"):
            await batcher.predict(by("v1"))
        device.release()
        await asyncio.gather(first, loading)


async def test_a_version_that_cannot_be_built_changes_nothing() -> None:
    source, metrics = MemorySource(v0=0, v1=1), Metrics(CollectorRegistry())

    def broken(real: Predictor) -> Predictor:
        raise RuntimeError("it does not fit")

    source.wrap = broken
    async with swapping(source, metrics=metrics) as batcher:
        with pytest.raises(InvalidRequest, match="v1 cannot be loaded: it does not fit"):
            await batcher.versions.load("v1")
        assert [status.name for status in batcher.versions.loaded()] == ["v0"]
        assert (await batcher.predict(by(None))).model_version == "v0"
    assert count(metrics, "version_loads_total", outcome="failed") == 1


async def test_a_device_lost_while_a_version_is_loaded_ends_the_load_and_the_service() -> None:
    source = MemorySource(v0=0, v1=1)

    def lost(real: Predictor) -> Predictor:
        raise DeviceLost("CUDA error: it is gone")

    source.wrap = lost
    async with swapping(source) as batcher:
        with pytest.raises(asyncio.CancelledError):
            await batcher.versions.load("v1")
        assert batcher.readiness().reason == "device_lost"


async def test_without_a_source_nothing_is_loaded() -> None:
    async with batching() as batcher:
        with pytest.raises(Unsupported):
            await batcher.versions.load("v1")
        assert [status.is_default for status in await batcher.versions.index()] == [True]


async def test_a_new_version_is_expected_to_cost_what_the_old_one_did_until_it_is_measured() -> None:
    async with swapping(MemorySource(v0=0, v1=1), warmup_sizes=((32, 48),)) as batcher:
        for _ in range(3):
            await batcher.predict(request(0, 64, 64, options=FULL))
        assert batcher._queue.device_costs is not None
        cost = batcher._queue.device_costs.network
        known = cost.factors[Bucket(64, 64, 1.0)]
        await batcher.versions.load("v1")
        assert cost.factors[Bucket(64, 64, 1.0, weights=1)] == known
        assert Bucket(32, 48, 1.0, weights=1) in cost.factors
        await until(lambda: len(batcher.versions.table) == 1)
        assert not any(bucket.weights == 0 for bucket in cost.factors)


async def test_a_share_of_live_requests_goes_to_the_new_version_and_comes_back_where_it_fails() -> None:
    source, metrics = MemorySource(v0=0, v1=1), Metrics(CollectorRegistry())

    def failing(real: Predictor) -> Watched:
        device = Watched(real, [])

        def run(works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
            raise ValueError("this version fails")

        device.run = run  # type: ignore[method-assign]
        return device

    source.wrap = failing  # type: ignore[assignment]
    async with swapping(source, metrics=metrics) as batcher:
        await batcher.versions.load("v1", share=0.5)
        results = await asyncio.gather(*(batcher.predict(by(None, i)) for i in range(60)), return_exceptions=True)
        assert 20 <= sum(isinstance(result, BaseException) for result in results) <= 30
        after = await asyncio.gather(*(batcher.predict(by(None, i)) for i in range(10)))
        assert {answer.model_version for answer in after} == {"v0"}
        status = next(status for status in batcher.versions.loaded() if status.name == "v1")
        assert (status.share, status.state) == (0.0, VersionState.READY)
        assert "of its requests failed" in status.reason
    assert count(metrics, "version_shares_returned_total") == 1


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (Options(times=(1, 2, 3, 4)), {}),
        (Options(), {"method": Method.FLOW, "shares": {BEFORE: 1.0}}),
        (Options(times=(1,)), {"is_cut": True}),
    ],
)
async def test_a_version_is_not_slower_for_predicting_what_the_default_only_carried_on(
    options: Options, changes: dict[str, Any]
) -> None:
    """The default is asked for four carried frames, or for what takes no prediction and a fifth of the time."""
    async with swapping(MemorySource(v0=0, v1=1)) as batcher:
        await batcher.versions.load("v1", share=0.5)
        table = batcher.versions.table
        new, one = table.get("v1"), request(0)
        assert new is not None
        step = Step(one.current, (True,) * 9, 7)
        steps = (replace(step, **changes),) * options.frames
        quick = PredictResult("0", steps, "v0", Timings(blocks=0.2 if changes else 1.0), shortened=True)
        for _ in range(30):
            batcher.versions.record(table.default, replace(one, options=options), quick)
            batcher.versions.record(new, one, PredictResult("1", (step,), "v1", Timings(blocks=1.0)))
        assert table.trial is not None
        assert (table.trial.share, table.trial.reason) == (0.5, "")
