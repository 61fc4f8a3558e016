"""Cluster, Sentinel, TLS and ACL: a prediction over each, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis
import redis.asyncio.connection
import redis.connection

from service.core.types import PredictRequest
from service.distributed.broker.client import backoff, connect
from service.distributed.frontend.job_store import RedisJobs
from service.serving.jobs.job import JobState
from service.settings import Settings
from tests.unit.distributed.conftest import Bench, bench_of, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.other_ways import cluster, free_port, sentinel
from tests.unit.distributed.servers import Server, binaries, binary, running
from tests.unit.distributed.worker.test_worker import a_job, ended

LOCAL = Settings(lease_ms=600, shutdown_grace_s=5.0)


async def a_call_and_a_job(bench: Bench) -> None:
    """Both ways through the queue."""
    asked = PredictRequest("r", frame(3), frame(4))
    async with bench.work(Adder()):
        assert alike(await bench.engine.predict(asked), answer(asked))
        jobs = RedisJobs(bench.settings, bench.front)
        job = a_job(1, 2, 3)
        await jobs.submit(job)
        assert await ended(jobs, job.id) is JobState.DONE
        assert alike(
            dataclasses.replace(await jobs.result(job.id, "", 1), id="r"),
            answer(PredictRequest("r", frame(2), frame(3))),
        )


async def test_a_cluster_keeps_a_queue_in_one_slot_and_is_asked_for_the_time_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TIME has no key: it would go to any node, whose clock may differ from the queue's."""
    asked_for_time: list[object] = []
    for connection in (redis.asyncio.connection.AbstractConnection, redis.connection.AbstractConnection):
        send = connection.send_packed_command

        def watched(self: Any, command: Any, *rest: Any, send: Any = send, **more: Any) -> Any:
            if b"$4\r\nTIME\r\n" in (command if isinstance(command, bytes) else b"".join(command)):
                asked_for_time.append(command)
            return send(self, command, *rest, **more)

        monkeypatch.setattr(connection, "send_packed_command", watched)
    with cluster(binary()) as (_, port):
        settings = dataclasses.replace(LOCAL, redis_url=f"redis://127.0.0.1:{port}", redis_cluster=True)
        async with bench_of(settings) as bench:
            await a_call_and_a_job(bench)
    assert not asked_for_time


async def test_an_acl_user_needs_only_the_queues_own_keys() -> None:
    with running() as server:
        admin: Any = server.client()
        # Fewer rights than the shipped file gives: no CONFIG GET, no ACL DRYRUN.
        admin.execute_command("ACL", "SETUSER", "dmvfn", "on", ">secret", "~{dmvfn}:*", "+@all", "-@dangerous", "+info")
        admin.execute_command("ACL", "SETUSER", "default", "off")
        admin.close()
        url = f"unix://dmvfn:secret@{server.socket}"
        async with bench_of(dataclasses.replace(LOCAL, redis_url=url)) as bench:
            await a_call_and_a_job(bench)
        stranger = dataclasses.replace(LOCAL, redis_url=f"unix://dmvfn:wrong@{server.socket}")
        async with bench_of(stranger) as bench:
            assert not bench.front.readiness().ready


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "cert.pem"],
        capture_output=True,
        check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return tmp_path


async def test_tls_is_spoken_and_checked(certificate: Path) -> None:
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate / "cert.pem")]
    options += ["--tls-key-file", str(certificate / "key.pem"), "--tls-auth-clients", "no"]
    program = _speaks_tls(options)
    if program is None:
        pytest.skip("none of the installed Redis servers was built with TLS")
    with running(program, *options):
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate / 'cert.pem'}"
        async with bench_of(dataclasses.replace(LOCAL, redis_url=url)) as bench:
            await a_call_and_a_job(bench)
        client = connect(dataclasses.replace(LOCAL, redis_url=f"rediss://127.0.0.1:{port}"))
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        await client.aclose()


def _speaks_tls(options: list[str]) -> Path | None:
    for program in binaries().values():
        server = Server(program, *options)
        with contextlib.suppress(AssertionError):
            server.start()
            server.remove()
            return program
        server.remove()
    return None


@pytest.mark.parametrize("asks", ["nothing", "a password", "TLS", "TLS and a password"])
async def test_sentinels_are_asked_as_they_want_it(asks: str, certificate: Path, tmp_path: Path) -> None:
    """Charts that deploy Redis give their Sentinels its password, and its TLS: no primary was found then."""
    cert, key, secret = str(certificate / "cert.pem"), str(certificate / "key.pem"), "of-both"
    port = free_port()
    tls = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": cert, "tls-auth-clients": "no"}
    tls["tls-replication"] = "yes"
    ways = {"--port": str(port)}
    lines, look = list[str](), dict[str, Any]()
    changes: dict[str, Any] = {"redis_url": "redis://dmvfn"}
    program: Path | None = binary()
    if "TLS" in asks:
        ways = {"--tls-port": str(port)} | {f"--{name}": value for name, value in tls.items()}
        program = _speaks_tls([word for pair in ways.items() for word in pair])
        lines += [f"{name} {value}" for name, value in tls.items()]
        look = {"ssl": True, "ssl_ca_certs": cert}
        changes = {"redis_url": f"rediss://dmvfn?ssl_ca_certs={cert}", "redis_sentinel_tls": True}
    if program is None:
        pytest.skip("none of the installed Redis servers was built with TLS")
    if "password" in asks:
        lines += [f"requirepass {secret}"]
        look["password"] = changes["redis_sentinel_password"] = secret
    with (
        running(program, *(word for pair in ways.items() for word in pair)),
        sentinel(program, port, tmp_path, *lines, **look) as address,
    ):
        changes["redis_sentinels"] = (address,)
        async with bench_of(dataclasses.replace(LOCAL, **changes)) as bench:
            await a_call_and_a_job(bench)


@pytest.fixture
def sentinels() -> Iterator[tuple[Server, list[str], list[int]]]:
    """A primary, its replica, and one Sentinel that alone may decide."""
    ports = [free_port(), free_port(), free_port()]
    primary = Server(binary(), "--port", str(ports[0]), "--repl-diskless-sync-delay", "0")
    replica = Server(binary(), "--port", str(ports[1]), "--replicaof", "127.0.0.1", str(ports[0]))
    primary.start()
    replica.start()
    config = primary.folder / "sentinel.conf"
    config.write_text(
        f"port {ports[2]}\nsentinel monitor dmvfn 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds dmvfn 500\nsentinel failover-timeout dmvfn 2000\n"
    )
    process = subprocess.Popen([str(binary()), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    yield primary, [f"127.0.0.1:{ports[2]}"], ports
    process.kill()
    process.wait()
    replica.remove()
    primary.remove()


@pytest.mark.slow  # a Sentinel whose clock stumbles on a busy machine decides nothing for 30 seconds (TILT)
async def test_a_failover_loses_no_job_that_was_replicated(
    sentinels: tuple[Server, list[str], list[int]],
) -> None:
    primary, hosts, ports = sentinels
    watching = redis.Redis(port=ports[2])
    replicas = redis.Redis(port=ports[1])
    await until(lambda: replicas.info("replication").get("master_link_status") == "up")
    await until(lambda: _known_replicas(watching) == 1)
    settings = dataclasses.replace(LOCAL, redis_url="redis://dmvfn", redis_sentinels=tuple(hosts))
    async with bench_of(settings) as bench:
        jobs = RedisJobs(settings, bench.front)
        await a_call_and_a_job(bench)
        slow = Adder()
        slow.gate = asyncio.Event()
        async with bench.work(slow):
            work = [a_job(k, k + 1) for k in range(6)]
            for job in work:
                await jobs.submit(job)
            await until(lambda: slow.running > 0)
            client = primary.client()
            client.wait(1, 60_000)
            client.close()
            primary.kill()
            slow.gate.set()
            await until(lambda: not bench.front.readiness().ready)
            await until(lambda: bench.front.readiness().ready, 90)
            assert [await ended(jobs, job.id) for job in work] == [JobState.DONE] * 6
    watching.close()
    replicas.close()


def _known_replicas(sentinel: Any) -> int:
    with contextlib.suppress(redis.RedisError):
        state: dict[bytes, bytes] = _pairs(sentinel.execute_command("SENTINEL", "MASTER", "dmvfn"))
        return int(state.get(b"num-slaves", 0))
    return -1


def _pairs(answer: object) -> dict[bytes, bytes]:
    if isinstance(answer, dict):
        return {k if isinstance(k, bytes) else str(k).encode(): v for k, v in answer.items()}
    assert isinstance(answer, list)
    return dict(zip(answer[::2], answer[1::2], strict=True))


def test_new_tries_come_later_and_later_and_never_together() -> None:
    one, two = (list(islice(backoff(Random(seed)), 12)) for seed in (1, 2))
    assert all(a != b for a, b in zip(one, two, strict=True))
    assert max(one) <= 7.5
    assert sum(later > earlier for earlier, later in pairwise(one[:7])) >= 4
