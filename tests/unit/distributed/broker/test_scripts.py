"""Each script on each server that is installed, and all of them with memory full to the last byte."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from service.core.bucket import Bucket
from service.distributed.broker import scripts
from service.distributed.broker.keys import GROUP, Keys
from service.distributed.broker.scripts import Script, call_sync
from service.distributed.broker.submission import BEHIND_LIVE_S
from service.distributed.broker.wake_token import ExpectedCall
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.fair_shares import FairShares
from service.engine.scheduling.ready_requests import FairQueue
from service.engine.scheduling.request_state import RequestState
from tests.unit.distributed.servers import Server, binaries, running

K = Keys("t")
STREAM = K.stream(0, "32x48@1")
BEHIND_MS, PATIENCE_MS = round(1000 * BEHIND_LIVE_S), 20_000


@dataclass
class Queue:
    """The scripts' verbs, by hand."""

    client: Any

    def submit(self, job: str = "j", items: int = 1, stream: str = STREAM, **more: Any) -> list[Any]:
        given = {"most": 100, "bytes": 10_000, "work": 1000, "deadline": 0, "order": 1000, "front": "", **more}
        payload = K.payload(f"token-{job}")
        for k in range(items + 1):
            self.client.hset(payload, str(k), b"x" * 10)
        names = [K.job(job), payload, K.load, stream, K.buckets, K.wake, K.clients, K.results, K.kept, K.due]
        args = [GROUP, given["most"], given["bytes"], items, 10 * (items + 1), given["work"], given["deadline"]]
        args += [given["order"], job, f"token-{job}", given["front"], 60_000, "print", "ann", b"task"]
        args += [given.get("hook", ""), 1, 60_000 if given["front"] else 0, given.get("job_bytes", 10_000)]
        args += [given.get("room", 0), given.get("most_results", 100_000), given.get("client_items", 0)]
        args += [given.get("saving", 0), given.get("is_trial", 0), given.get("own_reply", ""), "ann"]
        answer: list[Any] = self(scripts.SUBMIT, names, args)
        return answer

    def claim(self, worker: str = "w1", most: int = 8, streams: tuple[str, ...] = (STREAM,)) -> list[tuple[str, str]]:
        """(stream, entry) of what was claimed."""
        taken = self.claim_share(worker, most, streams)[1]
        return [(stream.decode(), entry.decode()) for stream, entries in taken for entry, _ in entries]

    def claim_share(
        self,
        worker: str = "w1",
        most: int = 8,
        streams: tuple[str, ...] = (STREAM,),
        *,
        together: int = 8,
        held: int = 0,
        is_patient: int = 0,
        is_guess: int = 0,
    ) -> list[Any]:
        """What CLAIM answers."""
        args = [GROUP, worker, most, 2**30, together, held, 1000, 100_000, is_patient, "0.1", is_guess]
        answer: list[Any] = self(scripts.CLAIM, [K.due, K.idle, K.workers, K.turns, K.load, *streams], args)
        return answer

    def look(self, worker: str = "w1", held: int = 0, *, live_only: bool = False) -> tuple[str, ...]:
        """The streams that LOOK names."""
        return self.look_at_turns(worker, held, live_only=live_only)[0]

    def look_at_turns(
        self, worker: str = "w1", held: int = 0, *, live_only: bool = False
    ) -> tuple[tuple[str, ...], int]:
        """The streams that LOOK names, and whether the first goes first for having waited."""
        args = [K.streams, 4, worker, held, 5000, int(live_only), BEHIND_MS, PATIENCE_MS]
        streams, _, is_patient = self(scripts.LOOK, [K.due, K.buckets, K.idle, K.turns], args)
        return tuple(stream.decode() for stream in streams), is_patient

    def settle(self, entry: str, worker: str = "w1", job: str = "j", k: int = 0, how: str = "ok", **more: Any) -> Any:
        attempt = K.attempt(job, k, worker)
        if how == "ok" and more.get("attempt", True):
            self(scripts.KEEP, [attempt], [b"answer of " + worker.encode(), 60_000])
        stream = more.get("stream", STREAM)
        names = [stream, K.job(job), K.payload(f"token-{job}"), K.load, attempt, K.out(job, k), K.reply("f1")]
        names += [K.events, K.buckets, K.hooks, K.dead, K.clients, K.results, K.kept, K.due, K.idle]
        args = [GROUP, entry, worker, job, k, how, b"why", more.get("lease", 1000), more.get("runs", 3), 60_000]
        args += [more.get("idle", 0)]
        settled: list[Any] = self(scripts.SETTLE, names, args)
        return settled[:2]

    def cancel(self, job: str = "j", stream: str = STREAM) -> Any:
        names = [K.job(job), K.payload(f"token-{job}"), K.events, K.cancels, stream, K.load, K.buckets, K.clients]
        return self(scripts.CANCEL, [*names, K.results, K.kept, K.due], [job, 60_000, 1, GROUP])

    def state(self, job: str = "j") -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.client.hgetall(K.job(job)).items()}

    def load(self) -> list[int]:
        return [int(v or 0) for v in self.client.hmget(K.load, "items", "bytes", "work")]

    def fill(self) -> None:
        """No byte is left."""
        self.client.config_set("maxmemory", self.client.info("memory")["used_memory"] + 50_000)
        for size in (10_000, 1000, 1):
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                self._fill(b"x" * size)

    def _fill(self, value: bytes) -> None:
        for k in itertools.count():
            self.client.set(f"fill:{len(value)}:{k}", value)

    def __call__(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        fixed = len(script.keys)
        values = dict(zip(script.keys + script.args, [*keys[:fixed], *args], strict=True))
        return call_sync(self.client, script.bind(*keys[fixed:], **values))


@pytest.fixture(scope="module", params=sorted(binaries()))
def each_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(binaries()[request.param]) as server:
        yield server


@pytest.fixture
def queue(each_server: Server) -> Iterator[Queue]:
    client = each_server.client()
    client.config_set("maxmemory", 0)
    client.flushall()
    yield Queue(client)
    client.close()


def test_every_kind_of_server_is_tested_here() -> None:
    assert len(binaries()) >= 3  # those that come by pip; Debian's where it is installed


def test_an_item_goes_in_once_and_out_once_and_leaves_only_its_answer(queue: Queue) -> None:
    assert queue.submit()[0] == 1
    assert queue.load() == [1, 20, 1000]
    ((stream, entry),) = queue.claim()
    assert stream == STREAM
    assert queue.settle(entry) == [1, b"done"]
    assert queue.settle(entry, attempt=False) == [0]
    assert queue.load() == [0, 0, 0]
    assert queue.client.get(K.out("j", 0)) == b"answer of w1"
    left = {key.decode() for key in queue.client.keys("*")}
    assert left == {K.job("j"), K.out("j", 0), K.events, K.load, K.wake, K.results, K.kept, K.turns}
    queue.look()
    assert not queue.client.exists(K.turns, K.due)


def test_work_of_unknown_cost_is_counted_as_none(queue: Queue) -> None:
    queue.submit(work=0)
    ((_, entry),) = queue.claim()
    assert queue.settle(entry) == [1, b"done"]
    assert queue.load() == [0, 0, 0]


def test_a_second_submission_of_an_id_changes_nothing(queue: Queue) -> None:
    queue.submit()
    assert queue.submit() == [0, b"ann", b"print"]
    assert queue.load() == [1, 20, 1000]


@pytest.mark.parametrize(("more", "code"), [({"most": 0}, -1), ({"bytes": 19}, -2)])
def test_a_full_queue_is_refused(queue: Queue, more: dict[str, Any], code: int) -> None:
    assert queue.submit(**more) == [code, 0]
    assert queue.load() == [0, 0, 0]
    assert not queue.client.exists(STREAM, K.job("j"))


def test_a_hopeless_deadline_is_refused_only_behind_other_calls(queue: Queue) -> None:
    """Where nothing waits a price that is wrong would refuse for ever, since what is refused is never measured."""
    queue.client.hset(K.load, "live", 5000)
    assert queue.submit(deadline=1, work=5000) == [-3, 5000]
    queue.client.hset(K.load, "live", 0)
    assert queue.submit(deadline=1, work=5000)[0] == 1


def test_a_trial_is_taken_whatever_is_predicted_of_it(queue: Queue) -> None:
    queue.submit("first", front="f")
    assert queue.submit("second", front="f", deadline=1, work=10**9)[0] == -3
    assert queue.submit("second", front="f", deadline=1, work=10**9, is_trial=1)[0] == 1


def test_the_bucket_whose_head_is_due_first_is_claimed_with_its_other_class(queue: Queue) -> None:
    later, sooner, batch = K.stream(0, "a"), K.stream(0, "b"), K.stream(1, "b")
    queue.submit("late", stream=later, order=5000)
    queue.submit("soon", stream=sooner, order=1000)
    queue.submit("batch", stream=batch, order=9000)
    assert queue.look() == (sooner, batch)
    assert queue.look(live_only=True) == (sooner,)
    assert [s for s, _ in queue.claim(streams=queue.look())] == [sooner, batch]
    assert [s for s, _ in queue.claim(streams=queue.look())] == [later]
    assert queue.look() == ()


def test_background_work_is_behind_all_live_work_until_it_has_waited(queue: Queue) -> None:
    jobs, small = K.stream(1, "32x48@1"), K.stream(1, "16x16@1")
    queue.submit("young", items=3, stream=jobs, order=BEHIND_MS - PATIENCE_MS + 5000, work=2000)
    queue.submit("call", items=20, front="f1", stream=STREAM, order=10_000)
    assert queue.look_at_turns() == ((STREAM, jobs), 0)
    queue.submit("old", items=9, stream=small, order=BEHIND_MS - PATIENCE_MS - 1, work=200_000)
    assert queue.look_at_turns() == ((small,), 1)
    # It is not left to others, and is one load of the device at most.
    claims = queue.claim_share(most=8, streams=(small,), together=2, held=3, is_patient=1)[1]
    assert [(stream.decode(), len(entries)) for stream, entries in claims] == [(small, 2)]
    assert queue.look_at_turns() == ((STREAM, jobs), 0), "a tenth of the devices at most"
    queue.client.hset(K.turns, "patient", queue.client.time()[0] * 1000)
    assert queue.look_at_turns() == ((small,), 1)
    assert queue.look_at_turns(live_only=True) == ((STREAM,), 0)


def test_a_fleets_share_of_patient_background_work_grows_with_its_workers(queue: Queue) -> None:
    jobs = K.stream(1, "32x48@1")
    shares = []
    for workers in (1, 4):
        queue.client.zadd(K.workers, {f"w{k}": 2**52 for k in range(workers)})
        queue.submit(f"of {workers}", stream=jobs, order=BEHIND_MS - PATIENCE_MS - 1, work=1_000_000)
        now = queue.claim_share(streams=(jobs,), is_patient=1)[0]
        shares.append(int(queue.client.hget(K.turns, "patient")) - now)
    assert shares == [10_000, 2500]


def test_a_guess_claims_only_where_nothing_else_waits(queue: Queue) -> None:
    other = K.stream(0, "16x16@1")
    queue.submit("first", front="f1")
    assert queue.claim_share(streams=(other,), is_guess=1)[1:3] == [[], -1], "nothing is there"
    queue.submit("second", front="f1", stream=other)
    assert queue.claim_share(streams=(STREAM,), is_guess=1)[1:3] == [[], -1], "another size waits, too"
    queue.client.zrem(K.due, other)
    assert [row[0].decode() for row in queue.claim_share(streams=(STREAM,), is_guess=1)[1]] == [STREAM]
    assert queue.claim_share(streams=(STREAM,), is_guess=1)[1:3] == [[], -1], "it is claimed"


def test_a_wake_token_tells_of_one_call_and_of_nothing_else(queue: Queue) -> None:
    queue.submit("call", front="f1")
    queue.submit("job", items=2)
    tokens = queue.client.lrange(K.wake, 0, -1)
    assert [ExpectedCall.read(token) for token in tokens] == [
        None,
        None,
        ExpectedCall(STREAM, "call", "token-call", "f1"),
    ]
    assert ExpectedCall.read(None) is None


def test_a_claim_takes_no_more_than_it_may(queue: Queue) -> None:
    queue.submit(items=5)
    assert [len(queue.claim(most=3)), len(queue.claim(most=3)), len(queue.claim(most=3))] == [3, 2, 0]


def test_an_adaptive_call_is_admitted_by_the_least_that_it_and_others_need(queue: Queue) -> None:
    queue.submit("a", work=9000, saving=8000, deadline=60_000, front="f1")
    assert queue.submit("b", work=9000, saving=8000, deadline=2, front="f1")[0] == 1
    assert queue.submit("c", work=9000, deadline=10, front="f1") == [-3, 18_000], "2 ms of others and 9 of its own"
    assert queue.submit("d", work=9000, deadline=11, front="f1")[0] == 1
    for job, (_, entry) in zip("abd", queue.claim(), strict=True):
        queue.settle(entry, job=job)
    assert [int(value) for value in queue.client.hvals(K.load)] == [0] * queue.client.hlen(K.load)
    assert queue.client.hget(K.load, "saving") is None


def commands_of_a_claim(queue: Queue) -> int:
    """How many commands the server runs for one claim, those inside its scripts counted."""
    queue.client.config_resetstat()
    assert len(queue.claim(streams=queue.look())) == 1
    return sum(row["calls"] for row in queue.client.info("commandstats").values())


def test_a_claim_costs_as_much_among_many_sizes_as_among_few(queue: Queue) -> None:
    for k in range(300):
        queue.submit(f"j{k}", stream=K.stream(0, f"{16 * k}x48@1"))
    among_many = commands_of_a_claim(queue)
    while queue.client.zcard(K.due) > 2:
        queue.claim(streams=queue.look())
    # One or two more where a lease or a sign of life is looked at in the meantime; a look at each size would be 300.
    assert abs(among_many - commands_of_a_claim(queue)) <= 2
    assert among_many < 40


def test_the_index_holds_the_next_unclaimed_item_whatever_becomes_of_others(queue: Queue) -> None:
    for k, job in enumerate(("a", "b", "c")):
        queue.submit(job, order=1000 * (k + 1))
    dues = [int(fields[b"d"]) for _, fields in queue.client.xrange(STREAM)]
    assert queue.client.zscore(K.due, STREAM) == dues[0]
    queue.cancel("a")
    assert queue.client.zscore(K.due, STREAM) == dues[1]
    ((_, entry),) = queue.claim(most=1)
    assert queue.client.zscore(K.due, STREAM) == dues[2]
    queue.settle(entry, job="b")
    assert queue.client.zscore(K.due, STREAM) == dues[2]
    queue.cancel("c")
    assert not queue.client.exists(K.due, STREAM)


def test_a_release_without_an_index_hides_nothing_and_misleads_nobody(queue: Queue) -> None:
    """It adds streams, takes items and removes streams, and tells the index of none of it."""
    queue.submit("a")
    queue.client.delete(K.due)
    assert queue.look() == ()
    assert queue(scripts.SWEEP, [K.due, STREAM, K.stream(0, "gone")], [GROUP]) == 1
    assert queue.look() == (STREAM,)
    queue.client.xreadgroup(GROUP, "old", {STREAM: ">"})
    assert queue.claim(streams=queue.look()) == []
    assert queue.look() == ()
    queue.client.zadd(K.due, {K.stream(0, "gone"): 1})
    assert queue.claim(streams=queue.look()) == []
    assert not queue.client.exists(K.due)


def test_idle_workers_share_what_waits_and_busy_ones_leave_it_to_them(queue: Queue) -> None:
    queue.client.zadd(K.workers, {f"w{k}": 2**53 for k in range(4)})
    for k in range(4):
        queue.look(f"w{k}")
    queue.submit(items=16)
    assert [len(queue.claim(f"w{k}", most=16)) for k in range(3)] == [4, 4, 4], "a quarter, a third, a half"
    assert queue.claim_share("w0", 16, held=4)[1:3] == [[], 4], "the last idle one has room for all of it"
    assert len(queue.claim("w3", most=16)) == 4
    queue.submit("more", items=9)
    assert len(queue.claim_share("w0", 16, held=4)[1][0][1]) == 2, "nobody is idle: one of four workers' part"
    queue.submit("last")
    assert len(queue.claim("w0", most=16)) == 8, "whose device is free takes all when no other is idle"


def test_a_worker_is_idle_from_its_last_answer_to_its_next_claim(queue: Queue) -> None:
    queue.submit(items=2)
    first, second = queue.claim()
    assert queue.settle(first[1]) == [1, b"running"]
    assert not queue.client.exists(K.idle)
    assert queue.settle(second[1], k=1, idle=5000) == [1, b"done"]
    assert queue.client.zrange(K.idle, 0, -1) == [b"w1"]
    queue.submit("next")
    queue.claim()
    assert not queue.client.exists(K.idle)


@pytest.mark.parametrize("seed", range(3))
def test_clients_take_the_turns_that_the_engines_own_queue_would_give_them(queue: Queue, seed: int) -> None:
    rng = random.Random(seed)
    work = [(slot, rng.randrange(5_000, 90_000)) for slot in (0, 1, 2) for _ in range(8)]
    here = FairQueue(FairShares())
    for k, (slot, us) in enumerate(work):
        queue.submit(f"j{k}", stream=K.stream(0, "32x48@1", slot), work=us, order=1000 * (k + 1))
        ready = Entry(f"j{k}", Bucket(32, 48, 1.0), 1e6, (RouteOption(us / 1e6),), client=str(slot))
        ready.enter(RequestState.READY)
        ready.seq = k
        here.push(ready, key=k)
    expected = []
    while (first := here.peek()) is not None:
        expected.append(first.id)
        here.pop(first.most_seconds)
    order = []
    while streams := queue.look():
        for stream, entry in queue.claim(most=rng.randrange(1, 4), streams=streams):
            order.append(dict(queue.client.xrange(stream, entry, entry)[0][1])[b"j"].decode())
    assert order == expected


def test_only_the_owner_of_a_lease_renews_and_finishes(queue: Queue) -> None:
    queue.submit()
    ((_, entry),) = queue.claim("w1")
    queue.client.xclaim(STREAM, GROUP, "w2", 0, [entry])
    assert queue(scripts.RENEW, [STREAM], [GROUP, entry, "w1"]) == 0
    assert queue(scripts.RENEW, [STREAM], [GROUP, entry, "w2"]) == 1
    assert queue.settle(entry, "w1") == [0]
    assert queue.settle(entry, "w2") == [1, b"done"]
    assert queue.client.get(K.out("j", 0)) == b"answer of w2"


def test_a_lease_of_a_stream_that_is_gone_is_nobodys_and_no_error(queue: Queue) -> None:
    """One error here would keep a worker's other leases from being renewed."""
    queue.submit()
    ((_, entry),) = queue.claim()
    queue.settle(entry)
    assert not queue.client.exists(STREAM)
    assert queue(scripts.RENEW, [STREAM], [GROUP, entry, "w1"]) == 0
    assert queue(scripts.HAND_BACK, [STREAM, K.wake, K.job("j")], [GROUP, entry, "w1", 1000, 1, "", 0]) == 0
    queue.submit("j2")
    queue.client.xgroup_destroy(STREAM, GROUP)
    assert queue(scripts.RENEW, [STREAM], [GROUP, entry, "w1"]) == 0


def test_a_renewal_is_no_delivery(queue: Queue) -> None:
    queue.submit()
    ((_, entry),) = queue.claim()
    queue(scripts.RENEW, [STREAM], [GROUP, entry, "w1"])
    (row,) = queue.client.xpending_range(STREAM, GROUP, "-", "+", 1)
    assert row["times_delivered"] == 1


def test_an_entry_that_bears_anothers_id_is_not_finished_for_it(queue: Queue) -> None:
    queue.submit("other")
    ((_, entry),) = queue.claim()
    assert queue.settle(entry, job="j") == [0]
    assert queue.load() == [1, 20, 1000]


def test_the_queues_clock_is_the_one_that_scripts_decide_by(queue: Queue) -> None:
    seconds, micros = queue.client.time()
    before = int(seconds) * 1000 + int(micros) // 1000
    assert 0 <= queue(scripts.CLOCK, [K.load], []) - before < 60_000


def test_ages_count_what_is_claimed_and_find_the_oldest_and_pass_over_what_is_gone(queue: Queue) -> None:
    assert queue(scripts.AGES, ["gone"], [GROUP, 0]) == [0, 0, 0]
    queue.submit("j", items=3)
    ((_, entry),) = queue.claim(most=1)
    time_ms = int(entry.split("-")[0])
    assert queue(scripts.AGES, ["gone", STREAM], [GROUP, 2]) == [1, time_ms, 0]
    assert queue(scripts.AGES, ["gone", STREAM], [GROUP, 1]) == [1, 0, time_ms], "of background work"


def test_handing_back_counts_only_if_it_is_said_to(queue: Queue) -> None:
    queue.submit()
    ((_, entry),) = queue.claim()
    for counts, deliveries in ((0, 0), (1, 0)):
        assert queue(scripts.HAND_BACK, [STREAM, K.wake, K.job("j")], [GROUP, entry, "w1", 1000, counts, "", 0]) == 1
        (row,) = queue.client.xpending_range(STREAM, GROUP, "-", "+", 1, idle=1000)
        assert row["times_delivered"] == deliveries
    assert queue(scripts.HAND_BACK, [STREAM, K.wake, K.job("j")], [GROUP, entry, "w2", 1000, 1, "", 0]) == 0


def test_a_lost_group_is_made_again_from_the_beginning(queue: Queue) -> None:
    queue.submit(items=2)
    queue.claim(most=1)
    queue.client.xgroup_destroy(STREAM, GROUP)
    assert len(queue.claim()) == 2


def test_burying_ends_the_job_and_keeps_its_frames_in_one_step(queue: Queue) -> None:
    queue.submit(items=2)
    claimed = queue.claim()
    assert queue.settle(claimed[0][1], how="bury", worker="w2", lease=0, runs=2) == [0]  # run once only
    queue.client.xclaim(STREAM, GROUP, "w1", 0, [claimed[0][1]])
    assert queue.settle(claimed[0][1], how="bury", worker="w2", lease=0, runs=2) == [1, b"failed"]
    assert queue.settle(claimed[0][1], how="bury", worker="w2", lease=0, runs=2) == [0]
    ((_, letter),) = queue.client.xrange(K.dead)
    assert (letter[b"j"], letter[b"runs"], letter[b"worker"]) == (b"j", b"2", b"w1")
    assert queue.client.hlen(K.payload("token-j")) == 3
    # Its other item runs out quietly: a failed job is not answered again.
    assert queue.settle(claimed[1][1], k=1) == [1, b"failed"]
    assert (queue.load(), queue.client.xlen(K.events)) == ([0, 0, 0], 1)


def test_a_replayed_job_runs_again_from_its_first_item(queue: Queue) -> None:
    queue.submit(items=2)
    first, second = queue.claim()
    queue.settle(first[1])
    queue.settle(second[1], k=1, how="bury")
    ((letter, _),) = queue.client.xrange(K.dead)
    names = [K.job("j"), K.payload("token-j"), K.load, STREAM, K.buckets, K.wake, K.dead, K.hooks]
    names += [K.clients, K.results, K.kept, K.due]
    assert queue(scripts.REPLAY, names, [GROUP, letter, "j", 1000]) == 2
    assert queue(scripts.REPLAY, names, [GROUP, letter, "j", 1000]) == -2
    assert (queue.state()["s"], queue.state()["done"], queue.client.xlen(K.dead)) == ("queued", "0", 0)
    for k, (_, entry) in enumerate(queue.claim()):
        queue.settle(entry, k=k)
    assert (queue.state()["s"], queue.load()) == ("done", [0, 0, 0])


def test_a_withdrawn_job_leaves_the_queue_at_once_whether_claimed_or_not(queue: Queue) -> None:
    queue.submit(items=3, room=5000)
    queue.submit("other")
    (_, entry), _ = queue.claim(most=2)
    assert queue.cancel() == b"cancelled"
    assert (queue.load(), queue.client.xlen(STREAM)) == ([1, 20, 1000], 1)
    assert not queue.client.exists(K.payload("token-j"))
    assert queue(scripts.BEGIN, [K.job("j"), K.front("")], [0, 0, "token-j"]) == [b"gone"]
    assert queue.settle(entry, how="drop") == [1, b"cancelled"]
    assert queue.settle(entry) == [1, b"cancelled"]
    assert queue.cancel() == b"cancelled"
    assert queue.cancel("nobody") is None
    assert queue.cancel("other") == b"cancelled"
    assert queue.load() == [0, 0, 0]
    assert not queue.client.exists(STREAM, K.clients)
    assert queue.client.hget(K.results, "sum") == b"2048", "only the states of two jobs are left"


def test_a_call_whose_front_end_died_is_an_orphan(queue: Queue) -> None:
    queue.submit(front="f1", deadline=60_000)
    queue.claim()
    assert queue(scripts.BEGIN, [K.job("j"), K.front("f1")], [0, 1, "token-j"]) == [b"orphan"]
    queue.client.set(K.front("f1"), 1)
    assert queue(scripts.BEGIN, [K.job("j"), K.front("f1")], [0, 1, "token-j"]) == [b"run", b"task", -1]


def test_a_full_server_still_drains(queue: Queue) -> None:
    """Submissions are refused; claims, renewals, answers, hand-backs, burials and cancels are not."""
    queue.submit("a", hook="http://h/")
    queue.submit("b")
    queue.submit("c")
    queue.fill()
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        queue.submit("d")
    claimed = [entry for _, entry in queue.claim()]
    assert len(claimed) == 3
    assert queue(scripts.BEGIN, [K.job("a"), K.front("")], [0, 0, "token-a"]) == [b"run", b"task", -1]
    assert queue(scripts.RENEW, [STREAM], [GROUP, claimed[0], "w1"]) == 1
    assert queue.settle(claimed[0], job="a") == [1, b"done"]
    assert queue.settle(claimed[1], job="b", how="bury") == [1, b"failed"]
    assert queue.cancel("c") == b"cancelled"
    assert queue.settle(claimed[2], job="c", how="drop") == [1, b"cancelled"]
    assert queue.load() == [0, 0, 0]
    assert (queue.client.xlen(K.dead), queue.client.zcard(K.hooks)) == (1, 1)
    assert queue.client.get(K.out("a", 0)) == b"answer of w1"


def test_a_due_webhook_is_taken_once_until_its_senders_time_is_over(queue: Queue) -> None:
    queue.submit(hook="http://h/")
    ((_, entry),) = queue.claim()
    queue.settle(entry)
    assert queue(scripts.TAKE_WEBHOOK, [K.hooks], [60_000, 800_000]) == b"j"
    assert queue(scripts.TAKE_WEBHOOK, [K.hooks], [60_000, 800_000]) is None
    queue.client.zadd(K.hooks, {"j": 0})
    assert queue(scripts.TAKE_WEBHOOK, [K.hooks], [60_000, 800_000]) == b"j"


def test_a_place_in_the_queue_counts_what_is_unclaimed_and_ahead(queue: Queue) -> None:
    for job in ("a", "b", "c"):
        queue.submit(job)
    entry = queue.state("c")["id"]
    assert queue(scripts.AHEAD, [STREAM, K.load], [GROUP, entry, 100]) == [2, 3000]
    queue.claim(most=1)
    assert queue(scripts.AHEAD, [STREAM, K.load], [GROUP, entry, 100]) == [1, 3000]
