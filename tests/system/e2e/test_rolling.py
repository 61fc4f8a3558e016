"""Every front end and every worker is replaced, one after the other, under load: nothing accepted is lost."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.system.e2e.fleet import Fleet, Member, fleet
from tests.system.e2e.process import tiny_weights
from tests.system.soak.frames import raw
from tests.system.soak.wire import Connections
from tests.unit.distributed.servers import Server, binary

#: Frames of one size, so that equal requests have equal answers whoever gives them.
REQUESTS = [raw(seed, 32, 48, "deadline_ms=60000") for seed in range(4)]
#: Between two questions of one caller, seconds.
PAUSE = 0.1


def png(shade: int) -> bytes:
    """A small picture: the test is of what happens to work, not of how much of it there is."""
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Fleet]:
    server = Server(binary()).start()
    with fleet(server.url, tiny_weights(tmp_path), drain_delay_s=0.5, lease_ms=5000) as made:
        yield made
    server.remove()


class Balancer:
    """Sends each request to a front end that says it is ready, and again where none was taken."""

    def __init__(self) -> None:
        self.fronts: list[Member] = []
        self.outcomes: Counter[int] = Counter()
        self.refusals: list[bytes] = []
        self.answers: dict[int, set[bytes]] = {}
        self.jobs: list[str] = []
        self.over = False

    async def call(self, seed: int) -> None:
        """One caller, as long as it lasts. 503 and a connection that was never made are tried again, nothing else."""
        chance = random.Random(seed)
        while not self.over:
            front, n = chance.choice(self.fronts), chance.randrange(len(REQUESTS))
            connections = Connections(front.http)
            try:
                reply = await connections.ask(REQUESTS[n])
            except ConnectionRefusedError:
                continue
            finally:
                connections.close()
            self.outcomes[reply.status] += 1
            if reply.status == 200:
                self.answers.setdefault(n, set()).add(reply.body)
            else:
                self.refusals.append(reply.body)
            # The processes that are starting need the processor too.
            await asyncio.sleep(PAUSE)

    async def submit(self) -> None:
        """Jobs beside the calls."""
        files = [("frames", png(shade)) for shade in (40, 90)]
        async with httpx.AsyncClient(timeout=60) as http:
            while not self.over:
                answer = await http.post(f"{self.fronts[0].http}/v1/jobs", files=files)
                if answer.status_code == 202:
                    self.jobs.append(answer.json()["id"])
                await asyncio.sleep(5 * PAUSE)


async def test_a_rolling_restart_of_front_ends_and_workers_loses_nothing(members: Fleet) -> None:
    workers = await asyncio.gather(*(asyncio.to_thread(members.start, "work") for _ in range(2)))
    balancer = Balancer()
    balancer.fronts = await asyncio.gather(*(asyncio.to_thread(members.start, "serve") for _ in range(2)))
    load = [asyncio.create_task(balancer.call(seed)) for seed in range(6)]
    load.append(asyncio.create_task(balancer.submit()))
    statuses: list[int | None] = []
    for k in range(2):
        new = await asyncio.to_thread(members.start, "serve")
        old, balancer.fronts[k] = balancer.fronts[k], new
        statuses.append(await asyncio.to_thread(old.terminate))
    for k in range(2):
        new = await asyncio.to_thread(members.start, "work")
        old, workers[k] = workers[k], new
        statuses.append(await asyncio.to_thread(old.terminate))
    balancer.over = True
    await asyncio.gather(*load)
    states = Counter[str]()
    async with httpx.AsyncClient(base_url=balancer.fronts[0].http, timeout=60) as http:
        for job in balancer.jobs:
            state = (await http.get(f"/v1/jobs/{job}?wait=30")).json()["state"]
            states[state] += 1
    print(
        f"calls {dict(balancer.outcomes)}, jobs {dict(states)}, exit statuses {statuses}, refusals {balancer.refusals}"
    )
    assert statuses == [0] * 4
    assert set(balancer.outcomes) <= {200, 503}
    assert balancer.outcomes[200] > 20
    assert all(len(bodies) == 1 for bodies in balancer.answers.values())
    assert set(states) == {"done"}
