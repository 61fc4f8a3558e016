"""Many coroutines, one device: everybody gets the answer it would get alone, and nobody else's."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.core.bucket import Bucket
from service.core.errors import ClientLimit, DeadlineExceeded, QueueFull, ServiceError, TooLarge
from service.core.interfaces import Readiness
from service.core.types import Options, PredictResult, Priority, Quality, RouteChoice, RoutePolicy
from service.engine.device import DeviceWork
from service.engine.device_thread import COUNTED_TOGETHER
from service.engine.scheduling.cost_model import Load, MeasuredRun
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.engine.tiny import PATIENCE, Rigged, batching, count, held, predictor, request, same, until

FULL = RouteChoice(RoutePolicy.FULL)


async def test_two_hundred_mixed_requests_at_once_get_what_they_would_get_alone() -> None:
    choices = [RouteChoice(), FULL, RouteChoice(RoutePolicy.SAMPLE, seed=3), RouteChoice(RoutePolicy.BUDGET, blocks=2)]
    sizes = [(32, 48), (30, 41), (48, 32), (64, 64)]
    asked = [
        request(
            i,
            *sizes[i % 4],
            client=f"client{i % 3}",
            options=Options(choices[i // 4 % 4], steps=2 if i % 5 == 0 else 1, scale=(1.0, 0.5)[i // 50 % 2]),
        )
        for i in range(200)
    ]
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    async with batching(device, metrics=metrics) as batcher:
        answers = await asyncio.gather(*(batcher.predict(one) for one in asked))
    alone = predictor()
    for one, answer in zip(asked, answers, strict=True):
        (steps,) = alone.run([DeviceWork(one)], lambda work: True).outcomes
        assert isinstance(steps, tuple)
        assert answer.id == one.id
        assert same(answer, dataclasses.replace(answer, steps=steps))
    assert sorted(device.ran) == sorted(one.id for one in asked)
    assert sum(count(metrics, "frames_predicted_total", bucket=b) for b in ("le_512x512", "le_720p")) == 240
    assert len(device.batches) < 200


async def test_what_gathers_while_the_device_is_busy_runs_together() -> None:
    device = Rigged()
    async with batching(device) as batcher:
        first = await held(device, batcher)
        rest = [asyncio.create_task(batcher.predict(request(i))) for i in range(5)]
        await until(lambda: batcher.debug()["inflight"] == 6)
        device.release()
        answers = await asyncio.gather(first, *rest)
    assert [sorted(batch) for batch in device.batches] == [["first"], ["0", "1", "2", "3", "4"]]
    assert [answer.batch_size for answer in answers] == [1, 5, 5, 5, 5, 5]


async def test_no_batch_is_larger_than_what_the_device_runs_together() -> None:
    device = Rigged()
    device.rows = 2
    async with batching(device) as batcher:
        first = await held(device, batcher)
        rest = [asyncio.create_task(batcher.predict(request(i))) for i in range(5)]
        await until(lambda: batcher.debug()["inflight"] == 6)
        device.release()
        await asyncio.gather(first, *rest)
    assert [len(batch) for batch in device.batches] == [1, 2, 2, 1]


async def test_a_short_deadline_passes_what_came_before_it_where_rows_run_one_by_one() -> None:
    device = Rigged()
    device.rows = 1
    async with batching(device) as batcher:
        first = await held(device, batcher)
        rest = [asyncio.create_task(batcher.predict(request(i))) for i in range(3)]
        await until(lambda: batcher.debug()["inflight"] == 4)
        urgent: list[asyncio.Task[PredictResult]] = []
        loop, came = asyncio.get_running_loop(), threading.Event()

        def ask() -> None:
            hurry = request(id="urgent", deadline=time.monotonic() + 10.0)
            urgent.append(asyncio.create_task(batcher.predict(hurry)))
            loop.call_soon(came.set)

        def one_comes(works: Sequence[DeviceWork]) -> None:
            if len(device.batches) == 2:
                loop.call_soon_threadsafe(ask)
                assert came.wait(PATIENCE)

        device.before_run = one_comes
        device.release()
        await asyncio.gather(first, *rest)
        await urgent[0]
    assert device.ran[2] == "urgent"


async def test_two_sizes_that_come_alternately_run_in_batches_of_one_size() -> None:
    device = Rigged()
    async with batching(device) as batcher:
        first = await held(device, batcher)
        asked = [request(i, *((32, 48) if i % 2 else (64, 64))) for i in range(12)]
        rest = [asyncio.create_task(batcher.predict(one)) for one in asked]
        await until(lambda: batcher.debug()["inflight"] == 13)
        device.release()
        await asyncio.gather(first, *rest)
    assert sorted(sorted(batch, key=int) for batch in device.batches[1:]) == [
        ["0", "2", "4", "6", "8", "10"],
        ["1", "3", "5", "7", "9", "11"],
    ]


async def test_a_request_alone_runs_at_once() -> None:
    device = Rigged()
    async with batching(device) as batcher:
        answer = await batcher.predict(request(1, options=Options(steps=2)))
    assert (len(answer.steps), answer.batch_size, answer.shortened) == (2, 1, False)
    assert answer.timings.blocks > 0
    assert answer.flops == sum(step.flops for step in answer.steps)
    assert device.routed == []  # its route was chosen on the way: its frames went to the device once


@pytest.mark.parametrize(("seconds", "ahead"), [(600.0, []), (45.0, ["0", "1", "2", "3"])])
async def test_routes_are_known_before_the_batch_only_when_deadlines_are_tight(
    seconds: float, ahead: list[str]
) -> None:
    device = Rigged()
    device.table = table(per_block=1.0)  # nine blocks: 9 s
    async with batching(device) as batcher:
        first = await held(device, batcher)
        deadline = time.monotonic() + seconds
        rest = [asyncio.create_task(batcher.predict(request(i, deadline=deadline))) for i in range(4)]
        await until(lambda: batcher.debug()["inflight"] == 5)
        device.release()
        await asyncio.gather(first, *rest)
    assert sorted(device.routed) == ahead


async def test_a_seed_is_drawn_where_the_caller_gave_none_and_reported() -> None:
    async with batching() as batcher:
        drawn = await batcher.predict(request(1, options=Options(RouteChoice(RoutePolicy.SAMPLE))))
        again = await batcher.predict(request(1, options=Options(RouteChoice(RoutePolicy.SAMPLE, seed=drawn.seed))))
        plain = await batcher.predict(request(1))
    assert same(drawn, again)
    assert (drawn.seed, plain.seed) == (again.seed, None)
    assert drawn.seed is not None


# --- leaving ----------------------------------------------------------------------------------------------------------


async def test_a_request_whose_client_left_while_it_waited_is_never_run() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    async with batching(device, metrics=metrics) as batcher:
        first = await held(device, batcher)
        leaving = [asyncio.create_task(batcher.predict(request(i))) for i in range(20)]
        staying = asyncio.create_task(batcher.predict(request(50)))
        await until(lambda: batcher.debug()["queue"]["items"] == 21)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        assert batcher.debug()["queue"]["items"] == 1
        device.release()
        await asyncio.gather(first, staying)
    assert device.ran == ["first", "50"]
    assert device.routed == []
    assert all(task.cancelled() for task in leaving)
    assert count(metrics, "cancelled_total", phase="queue") == 20


async def test_a_client_that_leaves_during_a_rollout_ends_it_at_the_next_step() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    async with batching(device, metrics=metrics) as batcher:
        device.hold()
        leaving = asyncio.create_task(batcher.predict(request(1, options=Options(steps=16))))
        await until(device.entered.is_set)
        leaving.cancel()
        await asyncio.wait([leaving])
        device.release()
        await until(lambda: count(metrics, "batches_total", bucket="le_512x512") == 1)
        await batcher.predict(request(2))
    assert count(metrics, "cancelled_total", phase="exec") == 1
    assert count(metrics, "frames_predicted_total", bucket="le_512x512") == 1  # only the second request's


async def test_nothing_is_answered_after_its_deadline_and_the_expired_never_run() -> None:
    for seconds in (0.3, 3.0, 30.0):  # a busy machine may not have it in the queue sooner
        metrics, device = Metrics(CollectorRegistry()), Rigged()
        async with batching(device, metrics=metrics) as batcher:
            first = await held(device, batcher)
            with pytest.raises(DeadlineExceeded) as missed:
                await batcher.predict(request(1, deadline=time.monotonic() + seconds))
            device.release()
            await first
            await batcher.predict(request(2))
        if not count(metrics, "deadline_missed_total", phase="admit"):
            break
    assert (missed.value.retry_after or 0) > 0
    assert device.ran == ["first", "2"]
    assert count(metrics, "deadline_missed_total", phase="queue") == 1


async def test_an_answer_that_is_not_there_in_time_is_given_up_while_it_runs() -> None:
    for seconds in (0.3, 3.0, 30.0):  # a busy machine may not have it on the device sooner
        metrics, device = Metrics(CollectorRegistry()), Rigged()
        async with batching(device, metrics=metrics) as batcher:
            device.hold()
            with pytest.raises(DeadlineExceeded):
                await batcher.predict(request(1, deadline=time.monotonic() + seconds))
            on_device = device.entered.is_set()
            device.release()
            await batcher.predict(request(2))
        if on_device:
            break
    assert count(metrics, "deadline_missed_total", phase="late") == 1


# --- admission --------------------------------------------------------------------------------------------------------


async def refusal(awaiting: asyncio.Task[PredictResult]) -> ServiceError:
    with pytest.raises(ServiceError) as refused:
        await awaiting
    return refused.value


async def test_a_full_queue_refuses_with_the_time_to_wait() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    async with batching(
        device, metrics=metrics, settings=Settings(max_queue_items=2, warmup_sizes=((32, 48),))
    ) as batcher:
        tasks = [await held(device, batcher)] + [asyncio.create_task(batcher.predict(request(i))) for i in range(2)]
        await until(lambda: batcher.debug()["queue"]["items"] == 2)
        refused = await refusal(asyncio.create_task(batcher.predict(request(3))))
        device.release()
        await asyncio.gather(*tasks)
    assert isinstance(refused, QueueFull)
    assert (refused.retry_after or 0) > 0
    assert count(metrics, "rejected_total", reason="queue_full", bucket="le_512x512") == 1


async def test_frames_that_no_queue_would_take_are_too_large_and_not_asked_for_again() -> None:
    limit = 2 * 32 * 48 * 3
    async with batching(settings=Settings(max_queue_bytes=limit, warmup_sizes=((32, 48),))) as batcher:
        await batcher.predict(request(0, 32, 48))
        refused = await refusal(asyncio.create_task(batcher.predict(request(1, 33, 48))))
    assert isinstance(refused, TooLarge)
    assert str(limit) in refused.message


async def test_a_client_over_its_limit_is_refused_and_others_are_not() -> None:
    device = Rigged()
    async with batching(device, settings=Settings(max_client_items=1, warmup_sizes=((32, 48),))) as batcher:
        first = await held(device, batcher)
        own = asyncio.create_task(batcher.predict(request(1, client="a")))
        await until(lambda: batcher.debug()["queue"]["items"] == 1)
        refused = await refusal(asyncio.create_task(batcher.predict(request(2, client="a"))))
        other = asyncio.create_task(batcher.predict(request(3, client="b")))
        device.release()
        await asyncio.gather(first, own, other)
        await batcher.predict(request(4, client="a"))
    assert isinstance(refused, ClientLimit)


async def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    async with batching(device, metrics=metrics) as batcher:
        first = await held(device, batcher)
        refused = await refusal(asyncio.create_task(batcher.predict(request(1, deadline=time.monotonic() + 1e-4))))
        device.release()
        await first
    assert isinstance(refused, DeadlineExceeded)
    assert device.ran == ["first"]
    assert count(metrics, "deadline_missed_total", phase="admit") == 1


def table(per_block: float) -> list[MeasuredRun]:
    """A warm-up that says: a pass costs nothing, each block this many seconds."""
    bucket = Bucket(32, 48, 1.0)
    loads = [Load.of(bucket, [tuple(i < blocks for i in range(9))], 1, 0) for blocks in range(1, 10)]
    return [MeasuredRun(bucket, load, per_block * sum(load.blocks) / bucket.pixels) for load in loads]


async def test_an_adaptive_request_in_a_hurry_gets_a_shorter_route_and_an_exact_one_is_refused() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    device.table = table(per_block=10.0)  # nine blocks: 90 s
    deadline = time.monotonic() + 45
    async with batching(device, metrics=metrics) as batcher:
        refused = await refusal(
            asyncio.create_task(batcher.predict(request(1, deadline=deadline, options=Options(FULL))))
        )
        adaptive = await batcher.predict(
            request(1, deadline=deadline, options=Options(FULL, quality=Quality.ADAPTIVE, steps=1))
        )
    assert isinstance(refused, DeadlineExceeded)
    assert (refused.reason, adaptive.shortened) == ("unmeetable", True)
    assert 1 <= sum(adaptive.steps[0].route) <= 5
    assert count(metrics, "routes_shortened_total") == 1


async def test_a_wrong_prediction_does_not_refuse_for_ever_and_the_impossible_spoils_none() -> None:
    device = Rigged()
    device.table = table(per_block=10.0)  # nine blocks: 90 s, which is wrong
    async with batching(device) as batcher:

        async def ask(seconds: float) -> bool:
            """Whether it was answered."""
            try:
                await batcher.predict(request(1, deadline=time.monotonic() + seconds, options=Options(FULL)))
            except DeadlineExceeded:
                return False
            return True

        assert [await ask(60), await ask(60)] == [False, True], "the first is refused, the second tried"
        cost = batcher._queue.device_costs
        believed = copy.deepcopy(cost)
        assert not await ask(1e-5)
        assert cost == believed, "who asked for less time than it takes spoiled it for others"
        assert all([await ask(20) for _ in range(20)]), "what is proved wrong refuses no more"


async def test_the_first_run_of_a_size_teaches_nothing_and_the_second_does() -> None:
    """It compiles and allocates: learnt from, a slow one had the size refused dozens of times."""
    device, metrics = Rigged(), Metrics(CollectorRegistry())
    async with batching(device, metrics=metrics) as batcher:
        cost, warmed_up = batcher._queue.device_costs, Bucket.of(32, 48)
        assert cost is not None
        believed = copy.deepcopy(cost)
        device.before_run = lambda works: time.sleep(0.3)
        await batcher.predict(request(1, 64, 96, options=Options(FULL)))
        assert cost == believed
        assert count(metrics, "cost_model_error_ratio_count", bucket="le_512x512") == 0
        device.before_run = lambda works: None
        await batcher.predict(request(1, 64, 96, options=Options(FULL)))
        assert list(cost.network.factors) == [warmed_up, Bucket.of(64, 96)]
        await batcher.predict(request(1, options=Options(FULL)))  # a size that was warmed up has no first run
        assert count(metrics, "cost_model_error_ratio_count", bucket="le_512x512") == 2


async def test_an_idle_device_that_only_refuses_says_since_when_and_stays_ready() -> None:
    device, metrics = Rigged(), Metrics(CollectorRegistry())
    device.table = table(per_block=10.0)  # nine blocks: 90 s, which is wrong
    async with batching(device, metrics=metrics) as batcher:
        assert batcher.readiness() == Readiness(True)
        for seconds in (2, 20):  # of unlike classes, so that neither is tried
            await refusal(
                asyncio.create_task(
                    batcher.predict(request(1, deadline=time.monotonic() + seconds, options=Options(FULL)))
                )
            )
            await asyncio.sleep(0.01)
        state = batcher.readiness()
        assert state.ready
        assert state.refusing_seconds >= 0.01
        assert batcher.debug()["refusing_seconds"] == state.refusing_seconds == count(metrics, "refusing_seconds")
        await batcher.predict(request(1, deadline=time.monotonic() + 200, options=Options(FULL)))
        assert batcher.readiness() == Readiness(True)
        assert count(metrics, "refusing_seconds") == 0


async def test_an_adaptive_request_with_time_gets_every_block() -> None:
    async with batching() as batcher:
        answer = await batcher.predict(request(1, options=Options(FULL, quality=Quality.ADAPTIVE, steps=2)))
    assert [sum(step.route) for step in answer.steps] == [9, 9]
    assert answer.shortened is False


async def test_a_shortened_rollout_stays_as_short_in_every_step() -> None:
    device = Rigged()
    device.table = table(per_block=10.0)
    async with batching(device) as batcher:
        answer = await batcher.predict(
            request(1, deadline=time.monotonic() + 200, options=Options(FULL, quality=Quality.ADAPTIVE, steps=3))
        )
    assert answer.shortened
    first, *later = (sum(step.route) for step in answer.steps)
    assert 1 <= first <= 6
    assert later == [first, first]


async def test_live_work_overtakes_batch_work() -> None:
    device = Rigged()
    async with batching(device, settings=Settings(max_batch=1, warmup_sizes=((32, 48),))) as batcher:
        first = await held(device, batcher)
        asked = [request(i, priority=Priority.BACKGROUND) for i in range(3)] + [request(3)]
        rest = [asyncio.create_task(batcher.predict(one)) for one in asked]
        await until(lambda: batcher.debug()["queue"]["items"] == 4)
        device.release()
        await asyncio.gather(first, *rest)
    assert device.ran[:2] == ["first", "3"]
    assert sorted(device.ran[2:]) == ["0", "1", "2"]


async def test_a_callers_id_need_not_be_unique() -> None:
    async with batching() as batcher:
        answers = await asyncio.gather(*(batcher.predict(request(i, id="same")) for i in range(4)))
        alone = [await batcher.predict(request(i)) for i in range(4)]
    assert all(same(one, other) for one, other in zip(answers, alone, strict=True))


# --- being seen -------------------------------------------------------------------------------------------------------


async def test_the_metrics_tell_what_happened() -> None:
    metrics = Metrics(CollectorRegistry())
    async with batching(Rigged(), metrics=metrics) as batcher:
        answer = await batcher.predict(request(1, options=Options(FULL)))
        busy = count(metrics, "device_busy_seconds_total")
        assert count(metrics, "inflight_requests") == 0
    assert count(metrics, "batches_total", bucket="le_512x512") == 1
    assert count(metrics, "batch_limit_total", reason="empty") == 1
    assert count(metrics, "cost_model_error_ratio_count", bucket="le_512x512") == 1
    assert [count(metrics, "stage_duration_seconds_count", stage=s) for s in ("queue", "route", "blocks")] == [1] * 3
    assert sum(count(metrics, "model_flops_total", component=f"block{i}") for i in range(1, 10)) == answer.flops
    assert count(metrics, "device_memory_bytes", kind="used") == 3
    assert 0 < busy < 60


async def test_the_device_is_busy_while_it_chooses_routes_ahead() -> None:
    """Fleets are sized by these seconds, and there are most of them under load."""
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    device.before_routes = lambda requests: time.sleep(0.3)
    async with batching(device, metrics=metrics) as batcher:
        first = await held(device, batcher)
        options = Options(quality=Quality.ADAPTIVE)
        rest = [asyncio.create_task(batcher.predict(request(k, options=options))) for k in range(2)]
        await until(lambda: batcher.debug()["inflight"] == 3)
        device.release()
        await asyncio.gather(first, *rest)
        assert device.routed
        await until(lambda: count(metrics, "device_busy_seconds_total") > 0.3)


async def test_the_gauges_show_what_waits() -> None:
    metrics, device = Metrics(CollectorRegistry()), Rigged()
    async with batching(device, metrics=metrics) as batcher:
        first = await held(device, batcher)
        rest = [asyncio.create_task(batcher.predict(request(i))) for i in range(3)]
        await until(lambda: count(metrics, "queue_items") == 3)
        assert count(metrics, "queue_bytes") == 3 * 2 * 32 * 48 * 3
        assert count(metrics, "inflight_requests") == 4
        ages = [count(metrics, "queue_oldest_age_seconds", priority=name) for name in ("live", "background")]
        assert ages[0] > 0
        assert ages[1] == 0
        assert count(metrics, "predicted_work_seconds") > 0
        device.release()
        await asyncio.gather(first, *rest)
        assert count(metrics, "queue_items") == count(metrics, "queue_bytes") == 0


class HeldMetrics(Metrics):
    """Metrics that stand still at a batch until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self.go_on = threading.Event()

    def batch_ran(self, *args: Any) -> None:
        assert self.go_on.wait(PATIENCE)
        super().batch_ran(*args)


async def test_an_answer_does_not_wait_to_be_counted() -> None:
    metrics = HeldMetrics()
    async with batching(metrics=metrics) as batcher:
        await asyncio.wait_for(batcher.predict(request(1)), PATIENCE / 2)
        metrics.go_on.set()
        assert count(metrics, "batches_total", bucket="le_512x512") == 1


async def test_what_was_answered_is_counted_before_close_ends() -> None:
    metrics = HeldMetrics()
    async with batching(metrics=metrics) as batcher:
        await asyncio.wait_for(batcher.predict(request(1)), PATIENCE / 2)
        metrics.go_on.set()
    assert len(metrics.deferred) == 0
    assert count(metrics, "batches_total", bucket="le_512x512") == 1
    assert count(metrics, "frames_predicted_total", bucket="le_512x512") == 1


async def test_batches_are_counted_together_though_nobody_scrapes_and_keep_no_frames() -> None:
    metrics = Metrics(CollectorRegistry())
    async with batching(metrics=metrics) as batcher:
        for seed in range(2 * COUNTED_TOGETHER):
            result = await batcher.predict(request(seed))
            pixels = weakref.ref(result.steps[0].frame.pixels)
            del result
            await until(lambda of=pixels: of() is None)  # type: ignore[misc]
            assert len(metrics.deferred) <= COUNTED_TOGETHER
        await until(lambda: len(metrics.deferred) == 0)
    assert count(metrics, "frames_predicted_total", bucket="le_512x512") == 2 * COUNTED_TOGETHER


async def test_decisions_can_be_looked_at() -> None:
    async with batching() as batcher:
        await batcher.predict(request(1))
        seen = batcher.debug()
    assert seen["ready"] is True
    assert seen["decisions"][-1]["bucket"] == [32, 48, 1.0, "dmvfn", 0]
    assert (seen["decisions"][-1]["size"], seen["decisions"][-1]["limit"]) == (1, "empty")
    assert len(seen["cost"]["block_seconds_per_pixel"]) == 9
