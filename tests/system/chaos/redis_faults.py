"""The kinds of faults that befall Redis, its disk, its clock and the way to it, one class each."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import ClassVar

import httpx
import redis

from service.imaging.codec import ImageFormat, encode
from tests.system.chaos import places
from tests.system.chaos.faults import Fault
from tests.system.chaos.processes import picture
from tests.system.chaos.stage import LARGE, LARGE_FROM, Stage, shape_of
from tests.unit.distributed.servers import Server


async def restart(stage: Stage) -> None:
    """Starts the server again, which has ended; it comes back with what its disk has."""
    await asyncio.sleep(0.2)
    await asyncio.to_thread(stage.server.start)


class Crash(Fault):
    name = "Redis killed"
    share = 4
    pause_s = 1.0

    async def inject(self, stage: Stage) -> None:
        stage.server.kill()

    async def heal(self, stage: Stage) -> None:
        await restart(stage)


class CrashAsDeployed(Crash):
    """The shipped configuration and ACL; nothing of a MULTI or a script may be gone when the file is replayed."""

    name = "Redis killed, shipped ACL"

    def place(self, program: Path) -> tuple[Server, str]:
        server = places.deployed(program)
        return server, f"unix://{server.user}:{server.password}@{server.socket}"


class CutConnections(Fault):
    name = "connections cut, over TLS"
    share = 5
    pause_s = 0.6

    def place(self, program: Path) -> tuple[Server, str]:
        return places.over_tls(program)

    def unfit(self, program: Path) -> str:
        if not shutil.which("openssl"):
            return "openssl is not installed"
        server, _ = places.over_tls(program)
        if not places.fits(server):
            return "the server was built without TLS"
        server.remove()
        return ""

    async def inject(self, stage: Stage) -> None:
        with contextlib.suppress(redis.RedisError):
            await stage.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")


class FullMemory(Fault):
    name = "Redis' memory full to the last byte"
    share = 3
    lasts_s = 1.2

    async def inject(self, stage: Stage) -> None:
        used = (await stage.redis.info("memory"))["used_memory"]
        await stage.redis.config_set("maxmemory", max(1, used - 100_000))

    async def heal(self, stage: Stage) -> None:
        await stage.redis.config_set("maxmemory", 0)


class FullOfResults(Fault):
    """Results fill the memory and stay; callers that fetch and delete theirs make room, and calls are answered."""

    name = "results fill Redis"
    share = 2
    room: ClassVar[int] = 1_000_000  #: bytes
    most: ClassVar[int] = 300  #: jobs that must suffice
    refusals: ClassVar[int] = 4  #: in a row, a moment apart: what waited has become results meanwhile

    def __init__(self) -> None:
        super().__init__()
        self._jobs: list[tuple[str, int]] = []

    async def inject(self, stage: Stage) -> None:
        if not self.injected:
            used = (await stage.redis.info("memory"))["used_memory"]
            await stage.redis.config_set("maxmemory", used + self.room)
        first = LARGE_FROM + 1000 * self.injected
        refused = 0
        for number in range(first, first + self.most):
            files = [("frames", encode(frame, ImageFormat.PNG)) for frame in picture(number, *shape_of(number))]
            answer = await stage.front().post("/v1/jobs", files=files)
            if answer.status_code == 202:
                refused = 0
                self._jobs.append((answer.json()["id"], number))
                await asyncio.sleep(0.02)
                continue
            refused += 1
            if refused == self.refusals:
                self.note = f"{len(self._jobs)} jobs filled {self.room} bytes"
                return
            await asyncio.sleep(0.4)
        stage.refused.append(f"{self.most} jobs did not fill Redis: nothing was tried")

    async def heal(self, stage: Stage) -> None:
        """Fetches, compares and deletes, as an orderly caller does; the limit stays."""
        for job, number in self._jobs:
            with contextlib.suppress(httpx.TransportError):
                await stage.front().get(f"/v1/jobs/{job}", params={"wait": 10})
                pixels = await stage.result(job)
                if pixels is not None:
                    stage.history.wrong_calls += pixels != await asyncio.to_thread(stage.history.expected, number)
                await stage.front().delete(f"/v1/jobs/{job}")
        self._jobs.clear()
        await asyncio.sleep(0.5)
        for number in range(4):
            answer = await stage.call(0, 10.0, pair=picture(LARGE_FROM - 4 + number, 2, *LARGE))
            if answer is None or answer.status_code != 200:
                stage.refused.append(f"after all results were deleted: {answer.text if answer else 'no answer'}")


class NarrowLink(Fault):
    """A burst whose frames take longer to send than a connection may be silent. Redis is well: all are answered.

    The link carries the answers and the noise's jobs besides: some three times the bytes of the frames.
    """

    name = "burst through a narrow link"
    lasts_s = 0.0
    burst: ClassVar[int] = 100
    upload_s: ClassVar[float] = 8.0
    deadline_s: ClassVar[float] = 120.0

    def __init__(self) -> None:
        super().__init__()
        self._slowest_s = 0.0

    def place(self, program: Path) -> tuple[Server, str]:
        server = places.plain(program)
        return server, f"unix://{server.folder / 'link'}"

    async def inject(self, stage: Stage) -> None:
        frames = [picture(2_700_000 + k, *shape_of(0)) for k in range(self.burst)]
        size = sum(len(encode(frame, ImageFormat.PNG)) for pair in frames for frame in pair)
        stage.link.bandwidth = size / self.upload_s
        began = time.monotonic()
        answers = await asyncio.gather(*(stage.call(0, self.deadline_s, pair=pair) for pair in frames))
        self._slowest_s = max(self._slowest_s, time.monotonic() - began)
        stage.link.bandwidth = 0
        failed = [a for a in answers if a is None or a.status_code != 200]
        self.note = f"the slowest call of {self.burst} was answered after {self._slowest_s:.0f} s"
        stage.refused += [
            f"a call of the burst: {a.json().get('reason', a.text) if a else 'no answer'}" for a in failed
        ]


class PowerCut(Fault):
    """Redis killed, and what it had not synced is gone: with `always`, nothing that it had answered."""

    name = "power cut, appendfsync always"
    share = 5
    pause_s = 0.8
    fsync: ClassVar[str] = "always"

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def place(self, program: Path) -> tuple[Server, str]:
        server = places.on_a_disk(program, self.fsync)
        return server, server.url

    def unfit(self, program: Path) -> str:
        return "" if shutil.which("cc") else "there is no C compiler to record what is synced"

    async def inject(self, stage: Stage) -> None:
        self._dropped += await asyncio.to_thread(places.cut_power, stage.server)
        stage.history.cuts.times.append(time.monotonic())
        self.note = f"{self._dropped} bytes were not yet synced"

    async def heal(self, stage: Stage) -> None:
        await restart(stage)


class PowerCutEverySecond(PowerCut):
    """Up to a second is lost, two when the disk is behind: measured, and nothing older."""

    name = "power cut, appendfsync everysec"
    share = 4
    pause_s = 1.5
    fsync = "everysec"
    unsynced_s = 2.0


class ClockJump(Fault):
    """The server's wall clock jumps by more than any lease or sign of life, back and forth."""

    name = "Redis' clock jumps"
    share = 6
    pause_s = 0.6
    jumps: ClassVar[tuple[int, ...]] = (30, -30, 3600, 0)

    def place(self, program: Path) -> tuple[Server, str]:
        server = places.with_a_clock(program)
        return server, server.url

    def unfit(self, program: Path) -> str:
        if not places.FAKETIME.exists():
            return "libfaketime is not installed (Debian: faketime)"
        # Debian's Redis 7 hangs at its start; why was not looked into (its jemalloc is a guess).
        return "" if places.bears_faketime(program) else "the server hangs under libfaketime"

    async def inject(self, stage: Stage) -> None:
        jump = self.jumps[self.injected % len(self.jumps)]
        places.set_clock(stage.server, jump)
        self.note = f"by {', '.join(f'{s:+d} s' for s in self.jumps[: self.injected + 1])} of the true time"


REDIS: tuple[type[Fault], ...] = (
    *(Crash, CrashAsDeployed, CutConnections, FullMemory, FullOfResults, NarrowLink),
    *(PowerCut, PowerCutEverySecond, ClockJump),
)
