"""One request's state as coroutines and the device thread change it: what has an outcome keeps it."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue

import pytest

from service.core.bucket import Bucket
from service.core.errors import DeadlineExceeded
from service.core.types import BLOCKS, Options, RouteChoice, RoutePolicy
from service.engine.device import bucket_of
from service.engine.request_queue import Pending, RequestQueue
from service.engine.scheduling.batch_scheduler import BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import CostModel, Load, MeasuredRun
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.pricing import DeviceCosts
from service.engine.scheduling.request_state import RequestState
from tests.unit.engine.tiny import Rigged, batching, request

FULL = Options(route=RouteChoice(RoutePolicy.FULL))


def empty_queue() -> RequestQueue:
    return RequestQueue(BatchScheduler(QueueLimits()), DeviceCosts(CostModel((1.0,) * BLOCKS, 1.0)))


def pending(id: str = "a", deadline: float = 100.0, options: Options = FULL) -> Pending:
    pair = request(0, options=options)
    return Pending(pair, Entry(id, bucket_of(pair), deadline, ()), lambda outcome: None)


def queued(queue: RequestQueue, deadline: float = 100.0, options: Options = FULL) -> Pending:
    waiting = pending(deadline=deadline, options=options)
    queue.enqueue(waiting, 0.0)
    return waiting


def running(queue: RequestQueue) -> Pending:
    one = queued(queue)
    assert queue.next_batch(1.0).batch == (one,)
    return one


def test_the_device_thread_sleeps_until_something_comes_or_the_queue_is_closed() -> None:
    queue, looks = empty_queue(), SimpleQueue[bool]()

    def look() -> None:
        while queue.wait():
            looks.put(bool(queue.next_batch(1.0).batch))

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(3):
        queued(queue)
        assert looks.get(timeout=60)
        with pytest.raises(Empty):
            looks.get(timeout=0.02)
    queue.close()
    thread.join(60)
    assert not thread.is_alive()


def test_a_pause_ends_as_soon_as_something_waits_or_comes() -> None:
    queue = empty_queue()
    queue.pause(0.001)
    threading.Timer(0.02, queued, (queue,)).start()
    queue.pause(30)
    assert queue.next_batch(1.0).batch
    queued(queue)
    queue.pause(30)
    queue.close()
    queue.pause(30)


def test_a_request_waits_for_its_route_or_for_the_device() -> None:
    queue = empty_queue()
    assert queued(queue).entry.state is RequestState.READY
    assert queued(empty_queue(), options=Options()).entry.state is RequestState.ROUTING


def test_a_refused_request_is_not_in_flight() -> None:
    queue, hopeless = empty_queue(), pending(deadline=-1.0)
    with pytest.raises(DeadlineExceeded):
        queue.enqueue(hopeless, 0.0)
    assert (hopeless.entry.state, len(queue)) == (RequestState.REFUSED, 0)


def test_a_caller_who_leaves_the_queue_is_forgotten_at_once() -> None:
    queue = empty_queue()
    one = queued(queue)
    assert queue.cancel(one) is RequestState.READY
    assert (one.entry.state, len(queue), queue.next_batch(1.0).batch) == (RequestState.CANCELLED, 0, ())


def test_a_caller_who_leaves_the_device_stays_in_flight_until_its_batch_is_done() -> None:
    queue = empty_queue()
    one = running(queue)
    assert queue.cancel(one) is RequestState.RUNNING
    assert (one.entry.state, len(queue)) == (RequestState.CANCELLED, 1)
    queue.finish_batch((one,), 2.0)
    queue.complete([(one, RequestState.DONE)])
    assert (one.entry.state, len(queue)) == (RequestState.CANCELLED, 0)


def test_an_answer_on_its_way_when_the_deadline_passes_comes_too_late() -> None:
    queue = empty_queue()
    one = running(queue)
    queue.finish_batch((one,), 2.0)
    assert queue.expire(one) is RequestState.RUNNING
    queue.complete([(one, RequestState.DONE)])
    assert one.entry.state is RequestState.EXPIRED


def test_what_expired_in_the_queue_does_not_expire_again_at_its_deadline() -> None:
    """It was counted twice: as missed in the queue, and, when its timer was faster than the news, as answered late."""
    queue = empty_queue()
    one = queued(queue, deadline=1.0)
    assert queue.next_batch(1.5).expired == (one,)
    assert queue.expire(one) is RequestState.EXPIRED
    queue.complete([(one, RequestState.EXPIRED)])
    assert len(queue) == 0


def test_what_has_its_answer_can_no_longer_be_cancelled_or_expire() -> None:
    queue = empty_queue()
    one = running(queue)
    queue.complete([(one, RequestState.DONE)])
    assert (queue.cancel(one), queue.expire(one), one.entry.state) == (RequestState.DONE,) * 3


def test_whose_route_cannot_be_chosen_has_failed() -> None:
    queue = empty_queue()
    one = queued(queue, options=Options())
    queue.fail([one])
    assert one.entry.state is RequestState.FAILED
    assert queue.next_batch(1.0).batch == ()


def test_a_last_word_is_for_all_who_have_no_outcome() -> None:
    queue = empty_queue()
    on_device = running(queue)
    waiting, left = pending("waiting"), pending("left")
    queue.enqueue(waiting, 1.0)
    queue.enqueue(left, 1.0)
    queue.cancel(left)
    assert queue.clear() == [on_device, waiting]
    assert (on_device.entry.state, waiting.entry.state) == (RequestState.FAILED,) * 2
    assert (left.entry.state, len(queue)) == (RequestState.CANCELLED, 0)


async def test_the_first_batch_is_already_planned_with_the_measured_cost_of_a_pass() -> None:
    """It was planned as if a pass cost nothing: the scheduler was told after the first batch only."""
    device, bucket = Rigged(), Bucket.of(32, 48)
    device.table = [
        MeasuredRun(bucket, Load.of(bucket, [(True,) * BLOCKS], passes, 0), 0.01 * passes) for passes in (1, 2, 3)
    ]
    async with batching(device) as batcher:
        assert batcher._queue.scheduler.overhead == pytest.approx(0.01, rel=0.1)
