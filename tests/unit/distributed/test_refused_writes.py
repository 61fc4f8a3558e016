"""A server that answers and takes no writes: too few replicas, a primary that became a replica, a right withdrawn.

Its answers have no class of their own in redis-py, and other words within a script of Redis 6.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import redis

from service.core.errors import Unavailable
from service.core.types import Options, PredictRequest
from service.distributed.broker.client import LOST, WritesRefused, classify
from service.distributed.frontend.job_store import RedisJobs
from service.distributed.worker import outcomes
from service.distributed.worker.outcomes import CUT_TRIES
from service.serving.jobs.job import JobState, NewJob, job_id
from service.settings import Settings
from tests.unit.distributed.conftest import Bench, bench_of, until
from tests.unit.distributed.engines import Adder, frame
from tests.unit.distributed.servers import Server, binaries, binary, running, shipped_acl

PROGRAMS = {binary(), *(path for name, path in binaries().items() if name == "redis-6.2")}


def too_few_replicas(admin: redis.Redis, *, refuses: bool) -> None:
    admin.config_set("min-replicas-to-write", int(refuses))


def a_replica(admin: redis.Redis, *, refuses: bool) -> None:
    admin.execute_command("REPLICAOF", *(("127.0.0.1", "1") if refuses else ("NO", "ONE")))  # type: ignore[no-untyped-call]


def without_a_right(admin: redis.Redis, *, refuses: bool) -> None:
    sign = "-" if refuses else "+"
    admin.execute_command("ACL", "SETUSER", "dmvfn", f"{sign}evalsha", f"{sign}eval")  # type: ignore[no-untyped-call]


def in_somebody_elses_script(admin: redis.Redis, *, refuses: bool) -> None:
    """As long as a script of another user runs, beyond what the server waits for, each command is answered BUSY."""
    if refuses:
        admin.config_set("lua-time-limit", 1)
        running = admin.connection_pool.get_connection()
        running.send_command("EVAL", "while true do end", 0)  # type: ignore[no-untyped-call]  # whose answer nobody reads
    else:
        admin.execute_command("SCRIPT", "KILL")  # type: ignore[no-untyped-call]
    while _is_busy(admin) is not refuses:
        pass


def _is_busy(admin: redis.Redis) -> bool:
    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False


REFUSALS = [too_few_replicas, a_replica, without_a_right, in_somebody_elses_script]


def on(server: Server) -> AbstractAsyncContextManager[Bench]:
    return bench_of(Settings(engine="redis", redis_url=server.url, lease_ms=10_000, shutdown_grace_s=5.0))


def a_job() -> NewJob:
    return NewJob(job_id("", None), "", (frame(1), frame(2), frame(3)), Options(), "print")


@pytest.mark.parametrize("program", sorted(PROGRAMS))
@pytest.mark.parametrize("refusing", REFUSALS)
async def test_who_asks_meanwhile_is_told_when_to_come_back(program: Any, refusing: Callable[..., None]) -> None:
    with running(program, acl=shipped_acl()) as server, server.client() as admin:
        async with on(server) as bench, bench.work(Adder()):
            jobs, job = RedisJobs(bench.settings, bench.front), a_job()
            await jobs.submit(job)
            bench.front._tasks[0].cancel()  # whose sign of life would say within a second that Redis is away
            refusing(admin, refuses=True)
            asked: list[Coroutine[Any, Any, Any]] = [
                bench.engine.predict(PredictRequest("r", frame(1), frame(2))),
                jobs.submit(a_job()),
                jobs.cancel(job.id, ""),
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            refusing(admin, refuses=False)
    assert [type(error) for error in answers] == [Unavailable] * 3, answers
    assert all(getattr(error, "retry_after", None) for error in answers)


@pytest.mark.parametrize("program", sorted(PROGRAMS))
@pytest.mark.parametrize("refusing", REFUSALS)
async def test_an_answer_made_meanwhile_is_kept_until_it_is_taken(
    program: Any, refusing: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """It was taken for too large after a few tries, and its job had failed for good."""

    def tries() -> int:
        return sum(record.name == outcomes.__name__ for record in caplog.records)

    adder = Adder()
    adder.gate = asyncio.Event()
    with running(program, acl=shipped_acl()) as server, server.client() as admin:
        async with on(server) as bench, bench.work(adder):
            jobs, job = RedisJobs(bench.settings, bench.front), a_job()
            await jobs.submit(job)
            await until(lambda: adder.running == job.items)
            refusing(admin, refuses=True)
            adder.gate.set()
            await until(lambda: tries() > job.items * CUT_TRIES)
            refusing(admin, refuses=False)
            await until(lambda: bench.front.readiness().ready)
            view = await jobs.get(job.id, "")
            while not view.state.final:
                view = await jobs.changed(view, "", 10)
    assert (view.state, view.failure) == (JobState.DONE, None)


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("MISCONF Errors writing to the AOF file: No space left on device", True),
        (
            "Error running script (call to f_12): @user_script:54: @user_script: 54: -MISCONF Redis is configured to",
            True,
        ),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", True),
        ("BUSYGROUP Consumer Group name already exists", False),
        ("wrong number of arguments for 'set' command", False),
        ("NOREPLICASATALL is no word of Redis'", False),
    ],
)
def test_what_says_so_is_a_loss_of_redis(text: str, is_refused: bool) -> None:
    failure = classify(redis.ResponseError(text))
    assert isinstance(failure, WritesRefused) is is_refused
    assert isinstance(failure, LOST) is is_refused
