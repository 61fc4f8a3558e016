"""Starting, draining, closing, and what a failing device does to the requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import pytest
import torch
from prometheus_client import CollectorRegistry

from service.backends import DrainingEngine
from service.core.errors import Internal, ServiceError, Unavailable
from service.core.interfaces import Readiness
from service.core.types import Method, Options, PredictRequest, PredictResult, Quality
from service.engine.batcher import Batcher
from service.engine.device import DeviceWork
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import Rigged, batching, count, held, network, request, until

SETTINGS = Settings(warmup_sizes=((32, 48),))
Answer = PredictResult | BaseException


async def eight_behind_the_first(device: Rigged, batcher: Batcher) -> list[Answer]:
    """One batch of eight, formed while the device is held; the answers in order, the first request's left out."""
    first = await held(device, batcher)
    rest = [asyncio.create_task(batcher.predict(request(i))) for i in range(8)]
    await until(lambda: batcher.debug()["inflight"] == 9)
    device.release()
    _, *answers = await asyncio.gather(first, *rest, return_exceptions=True)
    return answers


# --- one bad item -----------------------------------------------------------------------------------------------------


async def test_one_bad_item_of_eight_costs_exactly_one_error() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()

    def fail(works: Sequence[DeviceWork]) -> None:
        if any(work.request.id == "5" for work in works):
            raise ValueError("a bad item")

    device.before_run = fail
    async with batching(device, metrics=metrics) as batcher:
        answers = await eight_behind_the_first(device, batcher)
        assert batcher.readiness() == Readiness(True)
    print(f"{sum(isinstance(answer, Internal) for answer in answers)} error, 7 answers")
    assert [isinstance(answer, Internal) for answer in answers] == [i == 5 for i in range(8)]
    assert [isinstance(answer, PredictResult) for answer in answers] == [i != 5 for i in range(8)]
    assert count(metrics, "batch_isolated_errors_total") == 1


async def test_an_item_whose_route_cannot_be_chosen_fails_alone_and_never_runs() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()

    def fail(requests: Sequence[PredictRequest]) -> None:
        if any(asked.id == "2" for asked in requests):
            raise ValueError("no route")

    device.before_routes = fail
    async with batching(device, metrics=metrics) as batcher:
        first = await held(device, batcher)
        # Adaptive, so that routes are chosen ahead of the batch.
        adaptive = Options(quality=Quality.ADAPTIVE)
        rest = [asyncio.create_task(batcher.predict(request(i, options=adaptive))) for i in range(6)]
        await until(lambda: batcher.debug()["inflight"] == 7)
        device.release()
        _, *answers = await asyncio.gather(first, *rest, return_exceptions=True)
        assert batcher.debug()["inflight"] == 0
    assert [isinstance(answer, Internal) for answer in answers] == [i == 2 for i in range(6)]
    assert "2" not in device.ran


# --- memory -----------------------------------------------------------------------------------------------------------


async def test_a_batch_too_large_for_the_memory_is_halved_and_later_ones_are_smaller() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()

    def fail(works: Sequence[DeviceWork]) -> None:
        if len(works) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    device.before_run = fail
    async with batching(device, metrics=metrics) as batcher:
        answers = await eight_behind_the_first(device, batcher)
        again = await eight_behind_the_first(device, batcher)
    assert all(isinstance(answer, PredictResult) for answer in answers + again)
    assert [len(batch) for batch in device.batches] == [1, 8, 4, 4, 1, 4, 4]
    assert (count(metrics, "oom_total"), device.freed) == (1, 1)


# --- a lost device ----------------------------------------------------------------------------------------------------


async def test_a_sticky_device_error_fails_what_is_in_flight_and_asks_for_a_new_process() -> None:
    metrics, device, fatal_errors = Metrics(CollectorRegistry()), Rigged(), list[BaseException]()

    def fail(works: Sequence[DeviceWork]) -> None:
        if len(works) > 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    device.before_run = fail
    async with batching(device, metrics=metrics, on_fatal=fatal_errors.append) as batcher:
        answers = await eight_behind_the_first(device, batcher)
        assert batcher.readiness() == Readiness(False, "device_lost")
        with pytest.raises(Unavailable) as refused:
            await batcher.predict(request(1))
    assert [getattr(answer, "reason", None) for answer in answers] == ["device_lost"] * 8
    assert all(isinstance(answer, Unavailable) and answer.retry_after for answer in answers)
    assert len(device.batches) == 2  # it was not tried again
    assert (refused.value.reason, len(fatal_errors)) == ("device_lost", 1)
    assert count(metrics, "ready") == 0


async def outcome_of(batcher: Batcher, id: str) -> str:
    """Return how a request ended: "ok", or its error's reason or code."""
    try:
        await batcher.predict(request(1, id=id))
    except ServiceError as error:
        return error.reason or error.code
    return "ok"


@pytest.mark.parametrize("options", [Options(), Options(quality=Quality.ADAPTIVE)])
async def test_a_device_broken_in_a_way_that_nothing_names_is_lost_after_three_failures(options: Options) -> None:
    """It was ready for ever and failed each request."""
    device, fatal_errors = Rigged(), list[BaseException]()

    def fail(works: Sequence[object]) -> None:
        raise RuntimeError("an error that no release of the driver has yet")

    device.before_run = device.before_routes = fail
    async with batching(device, on_fatal=fatal_errors.append) as batcher:
        outcomes = []
        for number in range(20):
            try:
                await batcher.predict(request(number, options=options))
            except ServiceError as error:
                outcomes.append(error.reason or error.code)
            if len(outcomes) == 3:
                await until(lambda: not batcher.readiness().ready)
        assert batcher.readiness() == Readiness(False, "device_lost")
    assert outcomes == ["internal"] * 3 + ["device_lost"] * 17
    assert len(fatal_errors) == 1


async def test_a_device_whose_answers_are_never_finite_is_lost() -> None:
    device = Rigged()
    for parameter in device.real._network.parameters():  # type: ignore[attr-defined]
        parameter.fill_(float("nan"))
    device.table = []
    async with batching(device) as batcher:
        assert [await outcome_of(batcher, f"{number}") for number in range(3)] == ["internal"] * 3
        await until(lambda: batcher.readiness() == Readiness(False, "device_lost"))


async def test_a_device_that_passes_its_test_goes_on_however_many_requests_fail() -> None:
    device, fatal_errors = Rigged(), list[BaseException]()

    def fail(works: Sequence[DeviceWork]) -> None:
        if any(work.request.id.startswith("bad") for work in works):
            raise RuntimeError("a frame that nobody can predict")

    device.before_run = fail
    async with batching(device, on_fatal=fatal_errors.append) as batcher:
        assert [await outcome_of(batcher, f"bad {number}") for number in range(10)] == ["internal"] * 10
        assert await outcome_of(batcher, "good") == "ok"
        assert batcher.readiness() == Readiness(True)
    assert fatal_errors == []
    assert device.ran.count("self-test") == 3


async def test_a_success_between_failures_spares_the_device_its_test() -> None:
    device = Rigged()

    def fail(works: Sequence[DeviceWork]) -> None:
        if any(work.request.id.startswith("bad") for work in works):
            raise RuntimeError("a frame that nobody can predict")

    device.before_run = fail
    async with batching(device) as batcher:
        ids = ["bad", "bad", "good"] * 4
        assert [await outcome_of(batcher, id) for id in ids] == ["internal", "internal", "ok"] * 4
    assert "self-test" not in device.ran


async def test_answers_that_the_processor_gave_do_not_hide_that_the_device_is_broken() -> None:
    """Flow runs beside an accelerator: its answers kept a device ready that failed every request for the network."""
    net = network()
    device = Rigged(Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net)))

    def fail(works: Sequence[DeviceWork]) -> None:
        if any(work.request.options.method is not Method.FLOW for work in works):
            raise RuntimeError("an error that no release of the driver has yet")

    device.before_run = fail
    device.table = []
    async with batching(device) as batcher:
        for number in range(3):
            assert (await batcher.predict(request(number, options=Options(method=Method.FLOW)))).method is Method.FLOW
            with pytest.raises(Internal):
                await batcher.predict(request(number, options=Options(method=Method.DMVFN)))
        await until(lambda: batcher.readiness() == Readiness(False, "device_lost"))


async def test_a_device_without_memory_for_its_test_is_not_lost() -> None:
    device = Rigged()

    def fail(works: Sequence[DeviceWork]) -> None:
        if works[0].request.id == "self-test":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if works[0].request.id == "bad":
            raise RuntimeError("a frame that nobody can predict")

    device.before_run = fail
    async with batching(device) as batcher:
        assert [await outcome_of(batcher, "bad") for _ in range(4)] == ["internal"] * 4
        assert await outcome_of(batcher, "good") == "ok"


async def test_a_hung_device_is_noticed_by_the_watchdog() -> None:
    device, fatal_errors = Rigged(), list[BaseException]()
    settings = Settings(warmup_sizes=((32, 48),), watchdog_s=0.2)
    async with batching(device, on_fatal=fatal_errors.append, settings=settings) as batcher:
        first = await held(device, batcher)
        waiting = asyncio.create_task(batcher.predict(request(1)))
        outcomes = await asyncio.gather(first, waiting, return_exceptions=True)
        assert batcher.readiness() == Readiness(False, "device_lost")
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["device_lost"] * 2
    assert [type(error) for error in fatal_errors] == [TimeoutError]


async def test_the_watchdog_leaves_a_working_device_alone_and_sleeps_when_idle() -> None:
    fatal_errors: list[BaseException] = []
    for patience_s in (0.2, 1.0, 5.0):  # one run may take longer than the first of them on a busy machine
        fatal_errors.clear()
        settings = Settings(warmup_sizes=((32, 48),), watchdog_s=patience_s)
        async with batching(Rigged(), on_fatal=fatal_errors.append, settings=settings) as batcher:
            began = time.monotonic()
            with contextlib.suppress(Unavailable):
                while time.monotonic() < began + 2.5 * patience_s:
                    await batcher.predict(request(1))
            await until(lambda of=batcher: not of._watchdog.is_armed)  # type: ignore[misc]
            ready = batcher.readiness()
        if not fatal_errors:
            break
    assert (fatal_errors, ready) == ([], Readiness(True))


# --- start and end ----------------------------------------------------------------------------------------------------


async def test_before_it_is_warm_it_is_not_ready_and_refuses() -> None:
    device = Rigged()
    seen: list[Readiness] = []
    batcher = Batcher(lambda: device, SETTINGS, Metrics(CollectorRegistry()))
    device.before_warm_up = lambda: seen.append(batcher.readiness())
    with pytest.raises(Unavailable) as refused:
        await batcher.predict(request(1))
    with pytest.raises(Unavailable):
        batcher.model()
    await batcher.start()
    try:
        assert seen == [Readiness(False, "starting")]
        assert batcher.readiness() == Readiness(True)
        assert batcher.model() == device.info
    finally:
        await batcher.close()
    assert (refused.value.reason, (refused.value.retry_after or 0) > 0) == ("starting", True)


async def test_a_device_that_cannot_be_built_stops_the_start_with_its_error() -> None:
    def build() -> Rigged:
        raise ValueError("no such weights")

    batcher = Batcher(build, SETTINGS, Metrics(CollectorRegistry()))
    with pytest.raises(ValueError, match="no such weights"):
        await batcher.start()
    assert batcher.readiness().ready is False
    await batcher.close()


async def test_behind_a_drain_what_was_accepted_is_finished_and_what_comes_is_refused() -> None:
    device = Rigged()
    async with batching(device) as batcher:
        gate = DrainingEngine(batcher)
        device.hold()
        accepted = [asyncio.create_task(gate.predict(request(i))) for i in range(11)]
        await until(lambda: batcher.debug()["inflight"] == 11)
        drain = asyncio.create_task(gate.drain(30.0))
        await until(lambda: not gate.readiness().ready)
        with pytest.raises(Unavailable) as refused:
            await gate.predict(request(50))
        device.release()
        assert await drain is True
        answers = await asyncio.gather(*accepted)
    assert (refused.value.reason, (refused.value.retry_after or 0) > 0) == ("draining", True)
    assert len(answers) == 11
    assert "50" not in device.ran


async def test_when_the_grace_is_over_the_rest_is_told_as_the_batcher_closes() -> None:
    device, metrics = Rigged(), Metrics(CollectorRegistry())
    async with batching(device, metrics=metrics) as batcher:
        gate = DrainingEngine(batcher)
        device.hold()
        requests = [asyncio.create_task(gate.predict(request(i))) for i in range(2)]
        await until(lambda: batcher.debug()["inflight"] == 2)
        assert await gate.drain(0.01) is False
        close = asyncio.create_task(batcher.close())
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        device.release()
        await close
        assert batcher.readiness() == Readiness(False, "draining")
    assert count(metrics, "ready") == 0
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["draining"] * 2
    assert all(isinstance(outcome, ServiceError) for outcome in outcomes)


async def test_closing_ends_the_device_thread() -> None:
    async with batching() as batcher:
        await batcher.predict(request(1))
        thread = batcher._thread
        assert thread.join(0) is False
    assert thread.join(0) is True
