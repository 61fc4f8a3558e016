"""Which waiting requests run together, and when: examples. Invariants are in test_batch_scheduler_invariants."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from service.core.bucket import Bucket
from service.core.errors import ClientLimit, DeadlineExceeded, QueueFull
from service.core.types import Priority
from service.engine.scheduling.admission import BUSY_TRIAL_S, MOST_REFUSED
from service.engine.scheduling.batch_scheduler import PATIENCE_S, TOMBSTONES, BatchScheduler, QueueLimits
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.memory_caps import RECOVER_AFTER

SMALL, LARGE = Bucket(256, 448, 1.0), Bucket(1088, 1920, 1.0)
numbers = itertools.count()


def entry(
    id: str = "",
    *,
    bucket: Bucket = SMALL,
    deadline: float = 100.0,
    costs: tuple[float, ...] = (0.01,),
    client: str = "",
    priority: Priority = Priority.LIVE,
    nbytes: int = 10,
    steps: int = 1,
    routed: bool = True,
) -> Entry:
    rungs = tuple(RouteOption(cost) for cost in costs)
    return Entry(
        id or f"unnamed-{next(numbers)}",
        bucket,
        deadline,
        rungs,
        needs_route=not routed,
        client=client,
        priority=priority,
        nbytes=nbytes,
        steps=steps,
    )


def queue(*entries: Entry, now: float = 0.0, **limits: int) -> BatchScheduler:
    made = BatchScheduler(QueueLimits(**limits))
    for waiting in entries:
        made.enqueue(waiting, now)
    return made


def ids(entries: tuple[Entry, ...]) -> list[str]:
    return [waiting.id for waiting in entries]


def drain(waiting: BatchScheduler, now: float) -> list[list[str]]:
    """Every batch, each in no time."""
    batches = []
    while batch := waiting.next_batch(now).batch:
        batches.append(ids(batch))
        waiting.finish_batch(batch, now)
    return batches


# --- what runs together -----------------------------------------------------------------------------------------------


def test_an_empty_queue_gives_an_empty_batch() -> None:
    take = queue().next_batch(now=0.0)
    assert (take.batch, take.expired, take.limit) == ((), (), "empty")


def test_a_lone_request_runs_at_once() -> None:
    take = queue(entry("a")).next_batch(now=0.0)
    assert (ids(take.batch), take.limit, take.predicted_seconds) == (["a"], "empty", 0.01)


def test_a_batch_is_of_one_size_and_the_other_sizes_come_next() -> None:
    mixed = queue(*(entry(f"{name}{i}", bucket=size) for i in range(3) for name, size in (("s", SMALL), ("l", LARGE))))
    assert drain(mixed, 0.0) == [["s0", "s1", "s2"], ["l0", "l1", "l2"]]


def test_the_same_size_at_another_scale_is_another_batch() -> None:
    assert drain(queue(entry("a"), entry("b", bucket=SMALL._replace(scale=0.5))), 0.0) == [["a"], ["b"]]


def test_a_batch_holds_at_most_max_batch_requests() -> None:
    full = queue(*(entry(f"{i}") for i in range(5)), max_batch=3)
    take = full.next_batch(0.0)
    assert (ids(take.batch), take.limit) == (["0", "1", "2"], "max")


def test_what_a_device_would_run_one_by_one_is_taken_one_by_one_so_that_a_short_deadline_can_pass() -> None:
    waiting = queue(*(entry(f"patient{i}") for i in range(3)))
    waiting.device_rows = 1
    first = waiting.next_batch(0.0)
    waiting.enqueue(entry("urgent", deadline=0.5), 0.1)
    waiting.finish_batch(first.batch, 0.1)
    assert (ids(first.batch), first.limit) == (["patient0"], "max")
    assert drain(waiting, 0.1) == [["urgent"], ["patient1"], ["patient2"]]


def test_a_batch_holds_at_most_max_batch_pixels_but_always_one_request() -> None:
    tight = queue(*(entry(f"{i}", bucket=LARGE) for i in range(3)), max_batch_pixels=2 * LARGE.pixels)
    take = tight.next_batch(0.0)
    assert (ids(take.batch), take.limit) == (["0", "1"], "vram")
    assert ids(queue(entry("a", bucket=LARGE), max_batch_pixels=256).next_batch(0.0).batch) == ["a"]


def test_a_batch_grows_only_while_every_member_is_in_time() -> None:
    waiting = queue(*(entry(f"{i}", deadline=1.0, costs=(0.4,)) for i in range(2)))
    waiting.enqueue(entry("patient", costs=(0.4,)), 0.0)
    take = waiting.next_batch(0.0)
    assert (ids(take.batch), take.limit) == (["0", "1"], "slack")
    assert take.predicted_seconds == pytest.approx(0.8)


def test_the_margin_of_predictions_keeps_batches_smaller() -> None:
    waiting = queue(*(entry(f"{i}", deadline=1.0, costs=(0.4,)) for i in range(2)))
    waiting.margin = 0.5
    assert ids(waiting.next_batch(0.0).batch) == ["0"]


def test_a_batch_passes_through_the_network_as_often_as_its_longest_member() -> None:
    waiting = queue(entry("one"), entry("five", steps=5))
    waiting.overhead = 0.1
    assert waiting.next_batch(0.0).predicted_seconds == pytest.approx(0.52)


# --- who goes first ---------------------------------------------------------------------------------------------------


def test_what_a_queue_elsewhere_holds_for_the_device_shortens_routes_as_what_waits_here_does() -> None:
    def chosen(backlog: float, costs: tuple[float, ...] = (0.9, 0.5, 0.1), usual: float = 0.9) -> float:
        waiting = BatchScheduler(QueueLimits())
        waiting.backlog = backlog
        adaptive = entry(deadline=4.0, costs=(usual, 0.1), routed=False)
        waiting.enqueue(adaptive, 0.0)
        waiting.price(adaptive, tuple(RouteOption(cost) for cost in costs))
        ((taken),) = waiting.next_batch(0.0).batch
        assert taken.selection is not None
        return taken.selection.cost

    assert chosen(backlog=0.0) == chosen(backlog=0.5) == 0.9, "no more than itself waits"
    assert chosen(backlog=6.0) == 0.5, "of 4 s a ninth of 6 is 0.6"
    assert chosen(backlog=60.0) == 0.1
    assert chosen(backlog=6.0, usual=0.45) == 0.1, "its part is what it was predicted without a route, as theirs are"


def test_the_earliest_deadline_names_the_size_that_runs() -> None:
    waiting = queue(entry("later"), entry("sooner", bucket=LARGE, deadline=50.0))
    assert drain(waiting, 0.0) == [["sooner"], ["later"]]


def test_live_work_goes_before_batch_work_and_batch_work_fills_what_is_left() -> None:
    waiting = queue(
        entry("b0", priority=Priority.BACKGROUND, deadline=5.0),
        entry("b1", priority=Priority.BACKGROUND, deadline=5.0),
        entry("live"),
        max_batch=2,
    )
    assert drain(waiting, 0.0) == [["live", "b0"], ["b1"]]


def test_background_work_that_waits_for_long_gets_its_part_beside_live_work_without_end() -> None:
    """A job's item that a worker had claimed never ran under steady live load, and then counted as failed."""
    waiting, now, order = queue(max_batch=1), 0.0, list[str]()
    for k in range(3):
        waiting.enqueue(entry(f"job-{k}", priority=Priority.BACKGROUND, deadline=300.0, costs=(0.5,)), now)
    while now < 40.0:
        waiting.enqueue(entry(f"live-{now}", deadline=now + 10, costs=(0.5,)), now)
        batch = waiting.next_batch(now).batch
        order += [f"{taken.id} at {now}" for taken in batch if taken.priority is Priority.BACKGROUND]
        now += 0.5
        waiting.finish_batch(batch, now)
    assert order == [f"job-0 at {PATIENCE_S + 0.5}", "job-1 at 25.5", "job-2 at 30.5"], "a tenth of the device at most"


def test_background_work_that_waited_elsewhere_has_waited() -> None:
    job = entry("job", priority=Priority.BACKGROUND)
    job.waited = PATIENCE_S + 0.1
    waiting = queue(entry("live"), job, max_batch=1)
    assert drain(waiting, 0.0) == [["job"], ["live"]]


def test_clients_take_turns_however_much_one_of_them_sends() -> None:
    waiting = queue(*(entry(f"a{i}", client="a", costs=(0.2,)) for i in range(4)), max_batch=1)
    waiting.enqueue(entry("b0", client="b", costs=(0.2,)), 0.5)
    waiting.enqueue(entry("c0", client="c", costs=(0.2,)), 0.6)
    assert drain(waiting, 1.0) == [["a0"], ["b0"], ["c0"], ["a1"], ["a2"], ["a3"]]


def test_of_one_clients_requests_the_most_urgent_goes_first() -> None:
    waiting = queue(entry("later", deadline=90.0), entry("sooner", deadline=80.0), max_batch=1)
    assert drain(waiting, 0.0) == [["sooner"], ["later"]]


def test_a_large_frame_is_not_starved_by_a_stream_of_small_ones() -> None:
    """A small frame comes every 10 ms and takes 10 ms; the large one waits its turn, not for ever."""
    waiting = queue(entry("large", bucket=LARGE, deadline=10.0, costs=(0.2,)))
    now, ran = 0.0, []
    while "large" not in ran and now < 10.0:
        waiting.enqueue(entry(deadline=now + 1.0), now)
        batch = waiting.next_batch(now).batch
        ran += ids(batch)
        now += sum(member.most_seconds for member in batch)
        waiting.finish_batch(batch, now)
    assert "large" in ran
    assert now < 6.0


# --- who does not run -------------------------------------------------------------------------------------------------


def test_what_can_no_longer_be_in_time_never_runs() -> None:
    waiting = queue(entry("late", deadline=1.0, costs=(0.3,)), entry("fine"))
    take = waiting.next_batch(now=0.71)
    assert (ids(take.batch), ids(take.expired)) == (["fine"], ["late"])


def test_the_expired_of_every_size_leave_at_once() -> None:
    waiting = queue(entry("a", deadline=1.0), entry("b", bucket=LARGE, deadline=1.0, routed=False), entry("c"))
    assert sorted(ids(waiting.next_batch(now=2.0).expired)) == ["a", "b"]
    assert (len(waiting), waiting.nbytes) == (0, 0)


def test_the_withdrawn_never_run() -> None:
    waiting = queue(entry("gone"), entry("stays"))
    assert waiting.withdraw("gone") is True
    assert waiting.withdraw("gone") is False
    assert drain(waiting, 0.0) == [["stays"]]


def test_the_withdrawn_leave_nothing_behind_and_the_others_keep_their_order() -> None:
    waiting = queue(*(entry(f"stays{i}") for i in range(3)), entry("unrouted", routed=False), max_batch=1)
    for i in range(3 * TOMBSTONES):
        waiting.enqueue(entry(f"{i}", bucket=(SMALL, LARGE)[i % 2], routed=i % 3 != 0), 0.0)
        waiting.withdraw(f"{i}")
    assert len(waiting._expiry) <= TOMBSTONES + 4  # the heap itself, since this is about memory
    assert ids(waiting.next_to_route(0.0)) == ["unrouted"]
    assert drain(waiting, 0.0) == [["stays0"], ["stays1"], ["stays2"]]


def test_what_runs_can_no_longer_be_withdrawn() -> None:
    waiting = queue(entry("a"))
    waiting.next_batch(0.0)
    assert waiting.withdraw("a") is False


def test_a_cleared_queue_tells_who_waited() -> None:
    waiting = queue(entry("a"), entry("b", routed=False))
    assert ids(waiting.clear()) == ["a", "b"]
    assert (len(waiting), waiting.nbytes, waiting.work(0.0), drain(waiting, 0.0)) == (0, 0, 0.0, [])


# --- routes come first ------------------------------------------------------------------------------------------------


def test_a_request_runs_only_once_its_route_is_priced() -> None:
    waiting = queue(entry("a", routed=False))
    assert waiting.next_batch(0.0).batch == ()
    (unrouted,) = waiting.next_to_route(0.0)
    waiting.price(unrouted, (RouteOption(0.7),))
    assert waiting.next_to_route(0.0) == ()
    assert waiting.next_batch(0.0).predicted_seconds == pytest.approx(0.7)


def test_routes_are_chosen_for_one_size_at_a_time_and_at_most_a_batch() -> None:
    waiting = queue(
        *(entry(f"s{i}", routed=False) for i in range(3)), entry("l", bucket=LARGE, routed=False), max_batch=2
    )
    assert [ids(waiting.next_to_route(0.0)) for _ in range(4)] == [["s0", "s1"], ["s2"], ["l"], []]


def test_no_route_is_chosen_for_the_withdrawn_or_the_expired() -> None:
    waiting = queue(*(entry(name, routed=False, deadline=1.0) for name in ("gone", "late")))
    waiting.withdraw("gone")
    assert waiting.next_to_route(now=1.5) == ()
    assert ids(waiting.next_batch(now=1.5).expired) == ["late"]


def test_what_became_too_late_because_predictions_changed_is_expired_at_the_next_take() -> None:
    waiting = queue(entry("late", deadline=8.0, costs=(1.0,), routed=False))
    waiting.overhead = 0.5
    assert waiting.next_to_route(now=7.0) == ()
    assert ids(waiting.next_batch(now=7.0).expired) == ["late"]


def test_what_was_too_late_to_be_routed_is_routed_once_predictions_are_lower_again() -> None:
    """It once waited unrouted until it was late: left out of its line, and kept because it might be in time."""
    waiting = queue(entry("a", deadline=8.0, costs=(1.0,), routed=False))
    waiting.overhead = 0.5
    assert waiting.next_to_route(now=6.8) == ()
    waiting.overhead = 0.0
    assert waiting.next_batch(now=6.8).expired == ()
    (unrouted,) = waiting.next_to_route(now=6.8)
    waiting.price(unrouted, (RouteOption(1.0),))
    assert ids(waiting.next_batch(now=6.8).batch) == ["a"]


def test_pricing_one_that_was_withdrawn_meanwhile_does_nothing() -> None:
    waiting = queue(entry("a", routed=False))
    (unrouted,) = waiting.next_to_route(0.0)
    waiting.withdraw("a")
    waiting.price(unrouted, (RouteOption(0.7),))
    assert (waiting.next_batch(0.0).batch, waiting.work(0.0)) == ((), 0.0)


# --- adaptive routes --------------------------------------------------------------------------------------------------


def test_an_adaptive_request_with_time_gets_all_it_wants() -> None:
    (taken,) = queue(entry(costs=(0.9, 0.5, 0.1))).next_batch(0.0).batch
    assert taken.selection == RouteOption(0.9)


def test_an_adaptive_request_in_a_hurry_gets_the_most_that_fits() -> None:
    (taken,) = queue(entry(deadline=0.6, costs=(0.9, 0.5, 0.1))).next_batch(0.0).batch
    assert taken.selection == RouteOption(0.5)


def test_adaptive_requests_share_the_time_when_many_wait() -> None:
    """Eight that want 0.9 s each have 2 s together: each gets its share, and all are in time."""
    waiting = queue(*(entry(deadline=2.0, costs=(0.9, 0.5, 0.2)) for _ in range(8)))
    take = waiting.next_batch(0.0)
    assert len(take.batch) == 8
    assert {member.selection for member in take.batch} == {RouteOption(0.2)}


# --- admission --------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_says_how_long_it_will_take_to_drain() -> None:
    waiting = queue(entry(), entry(), max_items=2)
    with pytest.raises(QueueFull) as refused:
        waiting.enqueue(entry(), 0.0)
    assert refused.value.retry_after == pytest.approx(0.02)


def test_the_queue_is_bounded_in_bytes_too() -> None:
    waiting = queue(entry(nbytes=60), max_bytes=100)
    with pytest.raises(QueueFull):
        waiting.enqueue(entry(nbytes=41), 0.0)
    waiting.enqueue(entry(nbytes=40), 0.0)
    assert waiting.nbytes == 100


def test_a_client_may_have_so_much_in_flight_and_other_clients_do_not_care() -> None:
    waiting = queue(entry(client="a"), entry(client="a"), client_items=2)
    with pytest.raises(ClientLimit) as refused:
        waiting.enqueue(entry(client="a"), 0.0)
    assert refused.value.retry_after == pytest.approx(0.03)
    waiting.enqueue(entry(client="b"), 0.0)
    batch = waiting.next_batch(0.0).batch
    with pytest.raises(ClientLimit):
        waiting.enqueue(entry(client="a"), 0.0)  # running counts as much as waiting
    waiting.finish_batch(batch, 0.1)
    waiting.enqueue(entry(client="a"), 0.1)


def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    waiting = queue(*(entry(costs=(0.5,)) for _ in range(4)))
    with pytest.raises(DeadlineExceeded) as refused:
        waiting.enqueue(entry(deadline=100.0, costs=(99.0,)), 0.0)
    assert refused.value.reason == "unmeetable"
    assert refused.value.retry_after == pytest.approx(1.0)  # 2 s are ahead of its 99 s


def test_behind_a_running_batch_with_nobody_waiting_the_margin_refuses_nobody() -> None:
    waiting = queue(entry("first", costs=(1.0,)))
    waiting.margin = 1.0  # what a rush leaves behind
    waiting.next_batch(0.0)
    with pytest.raises(DeadlineExceeded):
        waiting.enqueue(entry(deadline=1.9, costs=(1.0,)), 0.0)
    waiting.enqueue(entry("second", deadline=2.0, costs=(1.0,)), 0.0)
    with pytest.raises(DeadlineExceeded):  # behind somebody else the margin counts: 3 s and the root of 3 times 1
        waiting.enqueue(entry(deadline=4.7, costs=(1.0,)), 0.0)
    waiting.enqueue(entry("third", deadline=4.8, costs=(1.0,)), 0.0)


def test_on_an_idle_device_waiting_would_not_help_and_is_not_advised() -> None:
    with pytest.raises(DeadlineExceeded) as refused:
        queue().enqueue(entry(deadline=1.0, costs=(2.0,)), 0.0)
    assert (refused.value.reason, refused.value.retry_after) == ("unmeetable", None)


def is_admitted(waiting: BatchScheduler, request: Entry, now: float = 0.0) -> bool:
    with contextlib.suppress(DeadlineExceeded):
        waiting.enqueue(request, now)
        return True
    return False


def outcomes(waiting: BatchScheduler, requests: int, ratio: float) -> str:
    """T for each request that an idle device tried, - for each refused; a trial takes `ratio` times its cost."""
    letters = ""
    for _ in range(requests):
        request = entry("hopeless", deadline=1.0, costs=(2.0,))
        if not is_admitted(waiting, request):
            letters += "-"
            continue
        take = waiting.next_batch(0.5)
        assert (ids(take.batch), take.expired) == (["hopeless"], ())
        waiting.record_trial(request, ratio)
        waiting.finish_batch(take.batch, 0.6)
        letters += "T"
    return letters


def test_on_an_idle_device_refusals_are_tried_less_often_while_they_prove_right() -> None:
    assert outcomes(queue(), 20, ratio=1.0) == "-T" + "--T" + "----T" * 3
    assert MOST_REFUSED == 4


def test_once_a_trial_proves_a_prediction_wrong_nothing_of_its_size_is_refused_until_it_is_right() -> None:
    waiting = queue()
    assert outcomes(waiting, 8, ratio=1.0) == "-T--T---"
    assert outcomes(waiting, 6, ratio=0.2) == "-TTTTT"
    assert outcomes(waiting, 6, ratio=1.0) == "T----T"


def test_callers_who_ask_for_the_impossible_do_not_use_up_the_trials_of_others() -> None:
    waiting, tried = queue(), 0
    for _ in range(20):
        impossible, possible = entry(deadline=0.001, costs=(2.0,)), entry(deadline=1.0, costs=(2.0,))
        for request in (impossible, possible):
            if is_admitted(waiting, request):
                waiting.next_batch(0.0)
                waiting.record_trial(request, 1.0)
                waiting.finish_batch((request,), 0.0)
                tried += request is possible
    assert tried >= 20 // (MOST_REFUSED + 1)


def test_what_is_tried_does_not_run_after_its_deadline() -> None:
    waiting = queue()
    assert [is_admitted(waiting, entry("hopeless", deadline=1.0, costs=(2.0,))) for _ in range(2)] == [False, True]
    assert ids(waiting.next_batch(1.1).expired) == ["hopeless"]


def test_while_a_trial_runs_others_are_not_refused_for_what_it_was_thought_to_cost() -> None:
    waiting = queue()
    for _ in range(2):
        is_admitted(waiting, entry("doubted", deadline=1.0, costs=(1e6,)))
    waiting.next_batch(0.0)
    assert is_admitted(waiting, entry(deadline=2.0, costs=(0.5,)))


def test_a_busy_device_tries_one_request_in_ten_seconds() -> None:
    """So that a size whose requests always find it busy with another is not refused for ever."""
    waiting = queue(entry(costs=(0.5,)))
    waiting.next_batch(0.0)
    assert not any(is_admitted(waiting, entry(deadline=1.0, costs=(2.0,))) for _ in range(50))
    now = BUSY_TRIAL_S
    tried = [is_admitted(waiting, entry(deadline=now + 1.0, costs=(2.0,)), now) for _ in range(50)]
    assert tried == [True] + [False] * 49


def test_what_becomes_too_dear_as_it_waits_is_tried_as_well() -> None:
    """Admitted by what routes usually cost, priced by its own: by that alone it would expire each time, unmeasured."""
    waiting, ran = queue(), 0
    for _ in range(10):
        request = entry("own route", deadline=1.0, costs=(0.9,), routed=False)
        waiting.enqueue(request, 0.0)
        (unrouted,) = waiting.next_to_route(0.0)
        waiting.price(unrouted, (RouteOption(2.0, (True,) * 9),))
        take = waiting.next_batch(0.0)
        assert ids(take.batch + take.expired) == ["own route"]
        ran += len(take.batch)
        waiting.finish_batch(take.batch, 0.1)
    assert ran == 5


@pytest.mark.parametrize("together", [1, 8])
def test_what_ran_leaves_nothing_behind_however_late_its_deadline(together: int) -> None:
    waiting = queue()
    waiting.device_rows = together
    for number in range(20 * TOMBSTONES):
        waiting.enqueue(
            entry(deadline=float("inf"), routed=number % 2 == 0, priority=list(Priority)[number % 2]), float(number)
        )
        for request in waiting.next_to_route(float(number)):
            waiting.price(request, (RouteOption(0.01, (True,) * 9),))
        if number % together == 0:
            waiting.finish_batch(waiting.next_batch(float(number)).batch, float(number))
    assert max(len(waiting._expiry), len(waiting._ready)) <= 2 * len(waiting) + TOMBSTONES + 1


def test_a_deadline_that_has_passed_is_refused_as_such() -> None:
    with pytest.raises(DeadlineExceeded) as refused:
        queue().enqueue(entry(deadline=1.0), 1.0)
    assert refused.value.reason == "deadline"


def test_what_runs_now_counts_towards_the_finish() -> None:
    waiting = queue(entry(costs=(5.0,)))
    batch = waiting.next_batch(0.0).batch
    with pytest.raises(DeadlineExceeded):
        waiting.enqueue(entry(deadline=4.0), 0.0)
    waiting.finish_batch(batch, 1.0)
    waiting.enqueue(entry(deadline=4.0), 1.0)
    assert len(waiting) == 1


def test_patient_work_in_the_queue_does_not_turn_urgent_work_away() -> None:
    waiting = queue(*(entry(deadline=1000.0, costs=(5.0,)) for _ in range(10)))
    waiting.enqueue(entry("urgent", deadline=1.0), 0.0)
    assert ids(waiting.next_batch(0.0).batch)[0] == "urgent"


def test_one_clients_flood_does_not_turn_another_client_away() -> None:
    waiting = queue(*(entry(deadline=20.0, costs=(0.5,), client="flood") for _ in range(38)))
    waiting.enqueue(entry(deadline=17.0, client="quiet"), 0.0)
    with pytest.raises(DeadlineExceeded):
        waiting.enqueue(entry(deadline=17.0, client="flood"), 0.0)


def test_an_adaptive_request_is_admitted_if_its_shortest_route_is_in_time() -> None:
    waiting = queue(entry(costs=(3.0,)))
    waiting.enqueue(entry(deadline=4.0, costs=(3.0, 0.5)), 0.0)
    assert len(waiting) == 2


# --- running out of memory --------------------------------------------------------------------------------------------


def test_after_running_out_of_memory_a_sizes_batches_are_smaller_and_others_are_not() -> None:
    waiting = queue(*(entry(f"{i}") for i in range(4)))
    waiting.shrink(SMALL, 2)
    assert drain(waiting, 0.0) == [["0", "1"], ["2", "3"]]
    waiting = queue(*(entry(f"{i}") for i in range(4)))
    waiting.shrink(LARGE, 2)
    assert drain(waiting, 0.0) == [["0", "1", "2", "3"]]


def test_a_smaller_limit_grows_back_one_by_one() -> None:
    waiting = queue(max_batch=4)
    waiting.shrink(SMALL, 2)
    sizes = []
    for _ in range(2 * RECOVER_AFTER + 1):
        for _ in range(4):
            waiting.enqueue(entry(), 0.0)
        batch = waiting.next_batch(0.0).batch
        waiting.finish_batch(batch, 0.0)
        waiting.clear()
        sizes.append(len(batch))
    assert sizes == [2] * RECOVER_AFTER + [3] * RECOVER_AFTER + [4]


def test_caution_learnt_in_a_rush_is_forgotten_once_the_device_has_been_idle() -> None:
    waiting = BatchScheduler(QueueLimits(max_batch=1))
    for _ in range(100):  # admitted and expired: predictions were too bold
        waiting.enqueue(entry(deadline=1.0, costs=(0.1,)), 0.0)
        waiting.next_batch(now=0.95)
    for _ in range(5):  # served alone, with nothing behind it
        waiting.enqueue(entry(deadline=9.0, costs=(0.1,)), 2.0)
        waiting.finish_batch(waiting.next_batch(now=2.0).batch, now=2.1)
    for _ in range(4):  # 0.4 s of work, far from 0.6 s
        waiting.enqueue(entry(deadline=3.6, costs=(0.1,)), 3.0)
    assert len(waiting) == 4
