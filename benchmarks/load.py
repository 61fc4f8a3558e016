"""The load generator, a process of its own: sends prepared requests on a schedule, or as fast as they are answered.

Started by other benchmarks through `run`; `python -m benchmarks.load` reads a plan (JSON) from its input and prints
what became of every request. Open loop: latency counts from when a request was due, not from when it could be sent.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from benchmarks import cores
from benchmarks.wire import Pool

#: Answers may differ by this much of 255: rounding depends on how many samples ran together.
LEVELS = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """One request: a file of what is sent, and one of the body that answers it; "": any body is right."""

    request: str
    expected: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send to 127.0.0.1:port. `due`: (seconds after the start, number of the kind) of an open loop.

    Without `due` a closed loop: `connections` at once for `seconds`, over all kinds in turn.
    """

    port: int
    kinds: tuple[Kind, ...]
    due: tuple[tuple[float, int], ...] = ()
    connections: int = 1
    seconds: float = 0.0
    patience: float = 30.0  #: seconds after which a request counts as never answered
    headers: tuple[str, ...] = ()  #: of each answer, in lower case: those to bring back


@dataclass(frozen=True, slots=True)
class Shot:
    """One request's fate: seconds from when it was due to its whole answer; status 0: none came.

    `right`: status 200 and the expected frame. `headers`: those that the plan asks for, "" where there was none.
    """

    kind: int
    at: float
    took: float
    status: int
    right: bool
    wait: float = 0.0  #: seconds from when it was due until it was sent
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fired:
    """Every request of a plan, and what the client itself cost: processor seconds."""

    shots: tuple[Shot, ...]
    seconds: float
    client_cpu: float


def poisson(rate: float, seconds: float, kinds: Sequence[int], seed: int) -> tuple[tuple[float, int], ...]:
    """Arrivals at `rate` a second, memoryless; kinds drawn evenly. The same seed gives the same arrivals."""
    chance = np.random.default_rng(seed)
    times = np.cumsum(chance.exponential(1 / rate, size=max(1, int(rate * seconds * 2) + 20)))
    times = times[times < seconds]
    drawn = chance.choice(list(kinds), size=len(times))
    return tuple((float(at), int(kind)) for at, kind in zip(times, drawn, strict=True))


def run(plan: Plan, core: int | None = None) -> Fired:
    """Carry it out in a process of its own, on `core` where given."""
    with cores.only(core):
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
    out, _ = child.communicate(json.dumps(dataclasses.asdict(plan)).encode())
    if child.returncode:
        raise RuntimeError(f"the load generator ended with status {child.returncode}")
    found = json.loads(out)
    shots = tuple(dataclasses.replace(Shot(*shot), headers=tuple(shot[-1])) for shot in found["shots"])
    return Fired(shots, found["seconds"], found["client_cpu"])


class _Gun:
    """The plan at work."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = [Path(kind.request).read_bytes() for kind in plan.kinds]
        self.expected = [Path(kind.expected).read_bytes() if kind.expected else None for kind in plan.kinds]
        self.pool = Pool("127.0.0.1", plan.port)
        self.shots: list[Shot] = []
        self.begun = time.perf_counter()

    async def fire(self, kind: int, due: float) -> None:
        status, body, headers = 0, b"", dict[str, str]()
        wait = time.perf_counter() - self.begun - due
        try:
            async with asyncio.timeout(self.plan.patience):
                reply = await self.pool.exchange(self.requests[kind])
            status, body, headers = reply.status, reply.body, dict(reply.headers)
        except (OSError, TimeoutError):
            pass
        took = time.perf_counter() - self.begun - due
        expected = self.expected[kind]
        right = status == 200 and (expected is None or alike(body, expected))
        values = tuple(headers.get(name, "") for name in self.plan.headers)
        self.shots.append(Shot(kind, due, took, status, right, wait, values))

    async def open_loop(self) -> None:
        async with asyncio.TaskGroup() as group:
            for due, kind in self.plan.due:
                await asyncio.sleep(max(0.0, self.begun + due - time.perf_counter()))
                group.create_task(self.fire(kind, due))

    async def closed_loop(self) -> None:
        async def caller(number: int) -> None:
            while (now := time.perf_counter() - self.begun) < self.plan.seconds:
                await self.fire(number % len(self.requests), now)
                number += 1

        await asyncio.gather(*(caller(number) for number in range(self.plan.connections)))


def alike(body: bytes, expected: bytes) -> bool:
    """The same bytes, or off by rounding."""
    if body == expected:
        return True
    if len(body) != len(expected):
        return False
    found, right = (np.frombuffer(data, np.uint8).astype(np.int16) for data in (body, expected))
    return int(np.abs(found - right).max()) <= LEVELS


async def _carry_out(plan: Plan) -> Fired:
    gun = _Gun(plan)
    cpu, gun.begun = time.process_time(), time.perf_counter()
    await (gun.open_loop() if plan.due else gun.closed_loop())
    fired = Fired(tuple(gun.shots), time.perf_counter() - gun.begun, time.process_time() - cpu)
    gun.pool.close()
    return fired


def main() -> None:
    """Plan in, shots out."""
    given = json.load(sys.stdin)
    given["kinds"] = tuple(Kind(**kind) for kind in given["kinds"])
    given["headers"] = tuple(given["headers"])
    fired = uvloop.run(_carry_out(Plan(**given)))
    shots = [dataclasses.astuple(shot) for shot in fired.shots]
    # Not sys.stdout: with PYTHONUNBUFFERED that drops what one system call does not take.
    with open(1, "w", closefd=False) as output:
        json.dump({"shots": shots, "seconds": fired.seconds, "client_cpu": fired.client_cpu}, output)


if __name__ == "__main__":
    main()
