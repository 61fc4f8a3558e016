"""Chaos: real workers, front ends and Redis suffer every kind of fault while jobs come in; then all is counted.

`python -m tests.system.chaos.run --jobs 2000 --faults 300` prints what each round found, then a line for each kind. It
exits 1 if an accepted job was lost, answered twice or wrongly, a front end stays silent, an idle fleet refuses a call,
or anything is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence

from tests.system.chaos import report
from tests.system.chaos.faults import DEVICES, PROCESSES, Fault
from tests.system.chaos.redis_faults import REDIS
from tests.system.chaos.releases import TwoReleases
from tests.system.chaos.round import Outcome, play
from tests.unit.distributed.servers import binaries

KINDS: tuple[type[Fault], ...] = (*PROCESSES, *DEVICES, TwoReleases, *REDIS)
#: The servers of a default run; what `--server` takes is a name without its dash, too.
SERVERS = ("redis-7", "valkey-8", "valkey-9")


def plan(kinds: Sequence[type[Fault]], servers: int, jobs: int, faults: int) -> dict[type[Fault], tuple[int, int]]:
    """Jobs and faults of one round of each kind, at least `jobs` and `faults` over all."""
    shares = sum(kind.share for kind in kinds)
    each = -(-jobs // (len(kinds) * servers))
    return {kind: (each, max(1, -(-faults * kind.share // (shares * servers)))) for kind in kinds}


async def rounds(
    pairs: Sequence[tuple[type[Fault], str]],
    numbers: Mapping[type[Fault], tuple[int, int]],
    *,
    seed: int,
    parallel: int,
    patience_s: float,
    within_s: float = math.inf,
) -> list[Outcome]:
    """Plays a round of each kind and server of `pairs`, `parallel` at a time; `numbers`: jobs and faults of each kind.

    A line is printed as each ends, and what it found below it. `patience_s`: how long jobs may take to end
    afterwards. Rounds that have not begun within `within_s` seconds are skipped, and say so.
    """
    gate = asyncio.Semaphore(parallel)
    programs = binaries()
    began = time.monotonic()

    async def one(kind: type[Fault], server: str, chance: int) -> Outcome:
        async with gate:
            if server not in programs:
                return Outcome(kind.name, server, skipped="this server is not installed")
            if time.monotonic() - began > within_s:
                return Outcome(kind.name, server, skipped="no time was left")
            outcome = await play(kind(), server, programs[server], *numbers[kind], chance, patience_s)
        sign = "skipped" if outcome.skipped else "ok" if outcome.sound else "WRONG"
        at = time.monotonic() - began
        print(f"{at:6.1f} s  {kind.name}, {server}: {sign}, took {outcome.seconds:.1f} s", flush=True)
        if found := report.details([outcome]):
            print(textwrap.indent(found, " " * 10), flush=True)
        return outcome

    chance = random.Random(seed)
    return await asyncio.gather(*(one(kind, server, chance.getrandbits(32)) for kind, server in pairs))


def main(argv: list[str] | None = None) -> int:
    """0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [name.replace("-", "") for name in SERVERS]
    parser.add_argument("--server", action="append", choices=names, help="only this one; repeat (default: all)")
    parser.add_argument("--kind", action="append", help="only kinds whose name has these words; repeat (default: all)")
    parser.add_argument("--jobs", type=int, default=2000, help="at least so many over all")
    parser.add_argument("--faults", type=int, default=300, help="at least so many over all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=2, help="rounds at a time")
    parser.add_argument("--patience", type=float, default=45.0, help="seconds jobs may take to end afterwards")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no round after so long (default: none)")
    options = parser.parse_args(argv)
    servers = [name for name in SERVERS if not options.server or name.replace("-", "") in options.server]
    kinds = [k for k in KINDS if not options.kind or any(words in k.name for words in options.kind)]
    if not kinds:
        parser.error(f"no kind has these words; there are: {', '.join(kind.name for kind in KINDS)}")
    began = time.monotonic()
    outcomes = asyncio.run(
        rounds(
            [(kind, server) for server in servers for kind in kinds],
            plan(kinds, len(servers), options.jobs, options.faults),
            seed=options.seed,
            parallel=options.parallel,
            patience_s=options.patience,
            within_s=60 * options.minutes,
        )
    )
    print(report.table(outcomes))
    print(f"took {time.monotonic() - began:.0f} s, seed {options.seed}, {', '.join(servers)}")
    return 0 if all(outcome.sound for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
