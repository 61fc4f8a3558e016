"""What runs on a worker, and what must not although it was claimed."""

from __future__ import annotations

import asyncio
import random

import pytest

from service.core.types import Options, Priority
from service.distributed.broker import serialization
from service.distributed.broker.client import close, connect
from service.distributed.worker import claims
from service.distributed.worker.claims import HANDED_BACK_MS, Claims
from service.distributed.worker.items import ClaimedWork, LeasedItem
from service.distributed.worker.lapsed_items import _Claimed
from service.distributed.worker.worker import Worker
from service.settings import Settings
from tests.unit.distributed.conftest import metrics
from tests.unit.distributed.engines import Adder, frame
from tests.unit.distributed.servers import Server


async def test_an_item_that_is_withdrawn_while_its_frames_are_on_their_way_is_not_run(settings: Settings) -> None:
    engine = Adder()
    worker = Worker(settings, engine, metrics())
    runs = worker._runs
    item, other = (LeasedItem("{q}:s:0:32x48@1", f"{k}-0", f"job {k}", 0, "upload", "front", 9.0, 1) for k in (1, 2))
    task, picture = serialization.task_bytes(Options(), Priority.LIVE, "", None), serialization.frame_bytes(frame(1))
    runs.expect([item, other])
    runs.withdraw([item.job])
    runs.start([ClaimedWork(one, "run", task, picture, picture) for one in (item, other)])
    await runs.all_ended()
    assert [request.id for request in engine.seen] == [other.job]

    # The withdrawal was of that claim: another one of the same item is run.
    runs.start([ClaimedWork(item, "run", task, picture, picture)])
    await runs.all_ended()
    assert [request.id for request in engine.seen] == [other.job, item.job]
    await close(worker._client)


async def test_withdrawals_are_heard_again_soon_however_long_redis_was_away(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose main loop was back ran calls for nobody until its ears were, seven seconds later at worst."""
    pauses, sleep = list[float](), asyncio.sleep

    async def short_sleep(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    server.kill()
    monkeypatch.setattr(asyncio, "sleep", short_sleep)
    client = connect(settings)
    hearing = Claims(settings, client, "w")
    task = asyncio.create_task(hearing.hear_withdrawals(lambda jobs: None, random.Random(1)))
    while len(pauses) < 12:
        await sleep(0.001)
    assert max(pauses) <= 1.5 * claims.HEAR_AGAIN_S
    assert pauses[0] < pauses[3] < pauses[6]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await close(client)


@pytest.mark.parametrize(
    ("idle_ms", "was_handed_back"),
    [(HANDED_BACK_MS, True), (HANDED_BACK_MS - 1, True), (HANDED_BACK_MS - 3_600_000, True), (3_600_000, False)],
)
def test_what_was_handed_back_is_no_lapse_where_the_server_s_clock_is_set(idle_ms: int, was_handed_back: bool) -> None:
    """A clock set back by a millisecond made it one: counted as a worker's death, which wakes somebody at night."""
    assert _Claimed("stream", "1-0", 1, "worker", idle_ms).was_handed_back is was_handed_back
