"""`python -m service jobs ...`: shows an operator the queue in Redis, and replays, purges or cancels its jobs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from service.core.types import Priority
from service.distributed.broker import announcement, scripts, serialization
from service.distributed.broker.blob_store import BlobStore, StoreUnavailable, blob_store
from service.distributed.broker.client import FAILED, LOST, SyncRedis, connect_sync, hang_up_sync
from service.distributed.broker.clip_record import MARK
from service.distributed.broker.clock import now_ms_sync
from service.distributed.broker.connection_options import explain
from service.distributed.broker.keys import GROUP, Keys, whole
from service.distributed.broker.submission import BEHIND_LIVE_S, cancel_of
from service.serving.jobs.job import Failure
from service.settings import Settings

#: Dead letters that `list` names, the newest ones.
LISTED = 10
#: The words for priorities that scripts may look for; background work was called batch.
PRIORITIES = {Priority.LIVE: "live", Priority.BACKGROUND: "batch"}
#: Why `replay` did not: what REPLAY answers.
NOT_REPLAYED = {-1: "its frames have expired", -2: "it is no failed job", -3: "it was a waiting call; nobody waits"}
NOT_REPLAYED[-4] = "part of its record is lost; submit it again"


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run one verb; return 0, 1 if something named is not there, 2 for a wrong command, 4 where Redis fails."""
    parser = argparse.ArgumentParser(prog="python -m service jobs", description="Look at the queue and mend it.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="streams, workers and counts")
    verbs.add_parser("dead", help="dead letters, oldest first")
    for name, about in (("inspect", "everything known of a job"), ("cancel", "withdraw a job")):
        verbs.add_parser(name, help=about).add_argument("job")
    for name, about in (("replay", "queue dead jobs again"), ("purge", "throw dead letters and their frames away")):
        verb = verbs.add_parser(name, help=about)
        which = verb.add_mutually_exclusive_group(required=True)
        which.add_argument("job", nargs="?")
        which.add_argument("--all", action="store_true")
        verb.add_argument("--quiet", action="store_true")
    params = parser.parse_args(argv)
    if not settings.redis_url:
        print("set DMVFN_REDIS_URL: without Redis jobs live in the server's process", file=sys.stderr)
        return 2
    client = connect_sync(settings)
    try:
        return int(_VERBS[params.verb](client, Keys(settings.redis_queue), params, settings))
    except LOST as error:
        print(f"redis is away: {explain(error)}", file=sys.stderr)
        return 4
    except FAILED as error:  # a queue that the ACL hides from its user, say
        print(f"redis refuses what queue {settings.redis_queue!r} was asked: {explain(error)}", file=sys.stderr)
        return 4
    finally:
        hang_up_sync(client)


def _list(client: SyncRedis, keys: Keys, params: argparse.Namespace, settings: Settings) -> int:
    load = {k.decode(): int(v) for k, v in client.hgetall(keys.load).items()}
    print(f"items {load.get('items', 0)}  bytes {load.get('bytes', 0)}  work {load.get('work', 0) / 1e6:.3f} s")
    for stream in sorted(client.smembers(keys.buckets)):
        pending = client.xpending(stream, GROUP)["pending"] if client.exists(stream) else 0
        print(f"stream {stream.decode()}  items {client.xlen(stream)}  claimed {pending}")
    now = now_ms_sync(client, keys)
    for worker, until in client.zrange(keys.workers, 0, -1, withscores=True):
        info = client.get(keys.info(worker.decode()))
        model = "?"
        with contextlib.suppress(serialization.UnreadableEntry):
            model = announcement.read_info(info)[0].version if info else "?"
        print(f"worker {worker.decode()}  {'alive' if until > now else 'silent'}  model {model}")
    waiting_clips, clips_under_way = client.zcard(keys.clip_line), client.zcard(keys.clip_leases)
    print(f"clips  waiting {waiting_clips}  being made {clips_under_way}  kept {client.hlen(keys.clips)}")
    print(f"results  bytes {int(client.hget(keys.results, 'sum') or 0)}")
    print(f"dead letters {client.xlen(keys.dead)}")
    for _, fields in reversed(client.xrevrange(keys.dead, count=LISTED)):
        failure = serialization.read_failure(fields[b"e"])
        print(f"dead {fields[b'j'].decode()}  item {fields[b'k'].decode()}  {failure.message}")
    return 0


def _inspect(client: SyncRedis, keys: Keys, params: argparse.Namespace, settings: Settings) -> int:
    fields = client.hgetall(keys.job(params.job))
    if not fields:
        print("there is no such job", file=sys.stderr)
        return 1
    if fields.get(b"f") == MARK:
        return _inspect_clip(fields)
    about = {"s": "state", "n": "items", "done": "done", "c": "client", "at": "created", "end": "finished"}
    for field, name in about.items():
        if (value := fields.get(field.encode())) is not None:
            text = value.decode()
            print(f"{name:9} {_time(whole(value)) if field in ('at', 'end') else text}")
    if missing := sorted(name.decode() for name in (scripts.RECORD | {b"m", b"p"}) - fields.keys()):
        print(f"lost      {', '.join(missing)} (parts of its record, as after a Redis that lost writes)")
    if b"m" in fields:
        try:
            options, priority, _, trace = serialization.read_task(fields[b"m"])
            print(f"options   {options}\npriority  {PRIORITIES[priority]}\ntrace     {trace}")
        except serialization.UnreadableEntry as error:
            print(f"options   not known to this release: {error}")
    if b"e" in fields:
        print(f"failure   {_failure(fields[b'e'])}")
    payload = keys.payload(fields.get(b"p", b"").decode())
    sizes = [client.hstrlen(payload, name) for name in sorted(client.hkeys(payload), key=int)]
    print(f"frames    {len(sizes)} kept, {sum(sizes)} bytes")
    return 0


def _inspect_clip(fields: dict[bytes, bytes]) -> int:
    about = {
        "s": "state",
        "n": "frames",
        "done": "done",
        "c": "client",
        "name": "file",
        "body": "bytes",
        "size": "result",
    }
    about |= {"runs": "runs", "ranges": "ranges", "at": "created", "end": "finished"}
    print("kind      clip")
    for field, name in about.items():
        if (value := fields.get(field.encode())) is not None:
            print(f"{name:9} {_time(whole(value)) if field in ('at', 'end') else value.decode(errors='replace')}")
    if b"e" in fields:
        print(f"failure   {_failure(fields[b'e'])}")
    return 0


def _dead(client: SyncRedis, keys: Keys, params: argparse.Namespace, settings: Settings) -> int:
    for entry, f in _letters(client, keys, None):
        failure = _failure(f.get("e", b""))
        kind = "call" if f.get("f") else "job"
        item, runs, worker = (f.get(name, b"?").decode() for name in ("k", "runs", "worker"))
        message = failure if isinstance(failure, str) else failure.message
        print(
            f"{entry}  {kind} {f['j'].decode()}  item {item}  runs {runs}  "
            f"{_time(whole(f.get('at')))}  last worker {worker}  {message}"
        )
    return 0


def _replay(client: SyncRedis, keys: Keys, params: argparse.Namespace, settings: Settings) -> int:
    count, failures = 0, 0
    for entry, f in list(_letters(client, keys, params.job)):
        count += 1
        job = f["j"].decode()
        bound = scripts.REPLAY.bind(
            job=keys.job(job),
            payload=keys.payload(f.get("p", b"").decode()),
            load=keys.load,
            stream=f.get("st", b"").decode(),
            buckets=keys.buckets,
            wake=keys.wake,
            dead=keys.dead,
            hooks=keys.hooks,
            clients=keys.clients,
            results=keys.results,
            kept=keys.kept,
            due=keys.due,
            group=GROUP,
            letter=entry,
            job_id=job,
            order_ms=round(1000 * BEHIND_LIVE_S),
        )
        items = scripts.call_sync(client, bound)
        failures += items < 0
        if not params.quiet:
            print(f"{job}  " + (f"{items} items queued" if items > 0 else f"not replayed: {NOT_REPLAYED[items]}"))
    return _exit_status(count, failures, params)


def _purge(client: SyncRedis, keys: Keys, params: argparse.Namespace, settings: Settings) -> int:
    job_ids: list[str] = []
    for entry, f in list(_letters(client, keys, params.job)):
        client.unlink(keys.payload(f.get("p", b"").decode()))
        client.xdel(keys.dead, entry)
        job_ids.append(f["j"].decode())
    # Not of one that was accepted anew under the same id since its record went.
    over = [job for job in job_ids if client.hget(keys.job(job), "s") in (None, b"failed")]
    _remove_elsewhere(settings, over)
    if not client.xlen(keys.dead):
        client.unlink(keys.dead)
    if not params.quiet:
        print(f"{len(job_ids)} purged")
    return _exit_status(len(job_ids), 0, params)


def _remove_elsewhere(settings: Settings, jobs: Sequence[str]) -> None:
    """Remove what jobs keep in the object store. Where that fails a front end's sweep does it, in time."""

    async def remove(blobs: BlobStore) -> None:
        for job in jobs:
            await blobs.remove(await blobs.names(job))

    try:
        if jobs and (blobs := blob_store(settings)) is not None:
            asyncio.run(remove(blobs))
    except (ImportError, StoreUnavailable) as error:
        print(f"left in the object store for now: {error}", file=sys.stderr)


def _cancel(client: SyncRedis, keys: Keys, params: argparse.Namespace, settings: Settings) -> int:
    if client.hget(keys.job(params.job), "f") == MARK:
        print(f"this is a clip: DELETE /v1/video/{params.job} stops it and removes what it holds", file=sys.stderr)
        return 1
    fields = client.hmget(keys.job(params.job), "p", "st")
    bound = cancel_of(keys, params.job, fields, keep=settings.job_ttl_s, tell=True)
    state = scripts.call_sync(client, bound)
    if state == b"cancelled":
        _remove_elsewhere(settings, [params.job])
    print("there is no such job" if state is None else state.decode(), file=sys.stderr if state is None else sys.stdout)
    return 1 if state is None else 0


_VERBS: dict[str, Any] = {
    "list": _list,
    "inspect": _inspect,
    "dead": _dead,
    "replay": _replay,
    "purge": _purge,
    "cancel": _cancel,
}


def _letters(client: SyncRedis, keys: Keys, job: str | None) -> Iterator[tuple[str, dict[str, bytes]]]:
    for entry, fields in client.xrange(keys.dead):
        letter = {name.decode(): value for name, value in fields.items()}
        if "j" in letter and (job is None or letter["j"].decode() == job):
            yield entry.decode(), letter


def _failure(data: bytes) -> Failure | str:
    try:
        return serialization.read_failure(data)
    except serialization.UnreadableEntry as error:
        return f"not known to this release: {error}"


def _exit_status(count: int, failures: int, params: argparse.Namespace) -> int:
    if not count and not params.all:
        print("there is no dead letter of this job", file=sys.stderr)
        return 1
    return 1 if failures else 0


def _time(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))
