"""Where a round of chaos plays: a private Redis, a fleet, callers over HTTP and the history of what they saw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Sequence
from typing import Any

import httpx
import redis.asyncio

from service.core.types import Frame, PredictRequest
from service.distributed.broker.client import end
from service.distributed.broker.keys import Keys
from service.engine.device import DeviceWork
from service.engine.predictor import Predictor
from service.imaging.codec import ImageFormat, encode
from service.settings import Settings
from simulator.history import Accepted
from tests.system.chaos.fleet import Fleet
from tests.system.chaos.history import History
from tests.system.chaos.link import Link
from tests.system.chaos.processes import Mark, picture
from tests.unit.distributed.servers import Server
from tests.unit.engine.tiny import predictor

SIZES = ((32, 48), (48, 64))
#: Of jobs whose results fill Redis: an answer of it takes tens of kilobytes.
LARGE = (192, 256)
#: Numbers from here on have LARGE frames; guilty jobs begin at a million, calls at two.
LARGE_FROM = 3_000_000
LEASE_S = 0.8
RAW = {"Accept": "application/octet-stream"}
#: Seconds after which a submission that is always refused gives up.
SUBMIT_S = 40.0
#: Seconds in which a fleet is ready: in a fresh checkout numba compiles first.
START_S = 240.0


def shape_of(number: int) -> tuple[int, int, int]:
    """Frames, height and width of a job."""
    if number >= LARGE_FROM:
        return (2, *LARGE)
    return (4 if number % 12 == 5 else 2), *SIZES[number % len(SIZES)]


def expected(device: Predictor, number: int) -> bytes:
    """The right answer of a job: the tiny network alone, whose answers do not depend on a batch."""
    pixels = []
    for previous, current in itertools.pairwise(picture(number, *shape_of(number))):
        (outcome,) = device.run([DeviceWork(PredictRequest("", previous, current))], lambda work: True).outcomes
        assert isinstance(outcome, tuple)
        pixels.append(outcome[0].frame.pixels.tobytes())
    return b"".join(pixels)


class Stage:
    """One round's processes and callers; `url` is the fleet's way to the server, unless through `link`."""

    def __init__(self, server: Server, url: str, settings: dict[str, Any], seed: int) -> None:
        self.server = server
        self.rng = random.Random(seed)
        self.link = Link(server.folder / "link", server.socket)
        self.settings = Settings(
            engine="redis",
            redis_url=url,
            lease_ms=round(1000 * LEASE_S),
            max_queue_items=4000,
            warmup_sizes=(SIZES[0],),
            shutdown_grace_s=10.0,
            job_ttl_s=86_400.0,
            **{"max_deliveries": 5, **settings},
        )
        self.redis: Any = redis.asyncio.Redis(
            unix_socket_path=str(server.socket),
            username=getattr(server, "user", None),
            password=getattr(server, "password", None),
            socket_timeout=10,
        )
        self._device = predictor()
        self.history = History(
            self.redis, Keys(self.settings.redis_queue), lambda n: expected(self._device, n), self.result
        )
        self.refused: list[str] = []  #: what an idle device, or a sound server, refused
        self.clients: list[httpx.AsyncClient] = []
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, workers: int, fronts: int) -> None:
        """Returns when every front end is ready."""
        await asyncio.to_thread(self.server.start)
        await self.link.start()
        self.fleet = await asyncio.to_thread(Fleet, self.settings, self.server.folder, workers, fronts, self.rng)
        self.clients = [self.client(socket) for socket in self.fleet.sockets]
        for client in self.clients:
            assert await self.ready(client, START_S), "the fleet did not start"
        self._watcher = asyncio.create_task(self.history.watch())

    async def close(self) -> None:
        """Ends every process and removes their folder."""
        if self._watcher:
            await end(self._watcher)  # one cancellation may be lost in redis-py
        if hasattr(self, "fleet"):
            await asyncio.to_thread(self.fleet.end)
        for client in self.clients:
            await client.aclose()
        await self.redis.aclose()
        await self.link.stop()
        await asyncio.to_thread(self.server.remove)

    def client(self, socket: str) -> httpx.AsyncClient:
        """A caller of one front end."""
        transport = httpx.AsyncHTTPTransport(uds=socket)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=150)

    async def ready(self, client: httpx.AsyncClient, seconds: float) -> bool:
        """Whether this front end is ready within so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/healthz/ready")).status_code == 200:
                    return True
            await asyncio.sleep(0.05)
        return False

    def front(self) -> httpx.AsyncClient:
        """Any of them."""
        return self.rng.choice(self.clients)

    async def submit(self, number: int, mark: Mark | None = None) -> str:
        """Posts a job until it is accepted and answers its id; "" if it never was. One with a mark is to fail."""
        frames = picture(number, *shape_of(number), mark)
        files = [("frames", encode(frame, ImageFormat.PNG)) for frame in frames]
        end, reason = time.monotonic() + SUBMIT_S, ""
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                sent = time.monotonic()
                answer = await self.front().post("/v1/jobs", files=files, headers={"Idempotency-Key": str(number)})
                if answer.status_code in (200, 202):
                    job: str = answer.json()["id"]
                    times = (sent, time.monotonic())
                    self.history.accepted[job] = Accepted(number, len(frames) - 1, *times, guilty=mark is not None)
                    return job
                reason = answer.text
            await asyncio.sleep(0.2 * self.rng.random())
        self.refused.append(f"job {number} was never accepted: {reason}")
        return ""

    async def call(
        self, number: int, deadline_s: float, client: httpx.AsyncClient | None = None, pair: Sequence[Frame] = ()
    ) -> httpx.Response | None:
        """Waits for a prediction; None if the connection was lost. Its bytes are compared unless `pair` is given."""
        previous, current = pair or picture(number, *shape_of(0))
        files = {"previous": encode(previous, ImageFormat.PNG), "current": encode(current, ImageFormat.PNG)}
        headers = {**RAW, "X-Request-Timeout-Ms": str(round(1000 * deadline_s))}
        try:
            answer = await (client or self.front()).post("/v1/predict", files=files, headers=headers)
        except httpx.TransportError:
            self.history.calls["connection lost"] += 1
            return None
        self.history.calls[str(answer.status_code)] += 1
        if answer.status_code == 200 and not pair and number % 4 == 0:  # the driver shares the cores with the fleet
            work = DeviceWork(PredictRequest("", previous, current))
            (outcome,) = self._device.run([work], lambda work: True).outcomes
            assert isinstance(outcome, tuple)
            self.history.wrong_calls += answer.content != outcome[0].frame.pixels.tobytes()
        return answer

    async def result(self, job: str) -> bytes | None:
        """A job's result, as any of the front ends gives it."""
        for _ in range(40):
            with contextlib.suppress(httpx.TransportError):
                answer = await self.front().get(f"/v1/jobs/{job}/result", headers=RAW)
                if answer.status_code == 200:
                    return answer.content
                if answer.status_code != 503:
                    return None
            await asyncio.sleep(0.1)
        return None
