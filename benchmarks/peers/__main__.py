"""The same predictor behind our service and behind others, one core each, under the same open-loop load.

    scripts/bench-peers                    (makes the peers' virtual environments first)
    python -m benchmarks.peers [--sizes 256x448 [128x224]] [--seconds 12] [--peers ours mosec ...] [--save one.json]
    python -m benchmarks.peers --draw docs/peers.png one.json two.json

Servers take turns; each sees the same arrivals. Load is a share of what the bare executor can do on that core,
deadlines are a multiple of what it takes alone; several sizes come in equal parts, interleaved by chance.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import bare, clips, cores, load
from benchmarks.bare import Picture
from benchmarks.machine import describe
from benchmarks.peers import plot
from benchmarks.peers.contenders import CONTENDERS, OURS, Contender, running
from benchmarks.peers.handler import Tuned
from model import checkpoint
from tests.system.e2e.process import free_port

#: Offered load as a share of the bare executor's capacity.
LOADS = (0.2, 0.8, 2.0)
#: A request's deadline as a multiple of its time alone: a batch of four that waited for another is just in time.
DEADLINE = 8.0
BATCH = 4
#: Seconds a server may take until its first right answer.
PATIENCE = 60.0
#: Seconds for which each size is run alone to know its time.
ALONE = 2.0
#: Seconds of a first rush, which shows a server that adapts to load some, and between that and the first load.
RUSH, SETTLE = 2.0, 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One server under one load. Latencies in seconds, of right answers; on_time and errors are shares of what came."""

    server: str
    load: float
    offered: float  #: requests a second
    answered: float  #: right answers a second, late ones too
    on_time: float
    errors: float  #: refused, failed, wrong, or never answered
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked: a pair of each size, what it must be answered with, and how long it takes alone (seconds)."""

    sizes: tuple[str, ...]
    pairs: tuple[Picture, ...]
    frames: tuple[Picture, ...]
    alone: tuple[float, ...]

    @property
    def capacity(self) -> float:
        """Requests a second that the bare executor can do, sizes in equal parts."""
        return len(self.alone) / sum(self.alone)


def prepare(weights: Path, sizes: Sequence[str], core: int | None) -> Case:
    """Measure the bare executor on the core the servers will have."""
    pairs = tuple(clips.pair(*clips.size(size)) for size in sizes)
    frames = tuple(bare.Executor(weights, threads=1)([pair])[0] for pair in pairs)
    alone = []
    with tempfile.TemporaryDirectory() as name, bare.process(weights, core) as executor:
        for pair in pairs:
            np.save(Path(name) / "pair.npy", pair[None])
            spell = executor.run(Path(name) / "pair.npy", bare.AUTO, ALONE)
            alone.append(spell.seconds / spell.frames)
    return Case(tuple(sizes), pairs, frames, tuple(alone))


def compare(
    case: Case, contender: Contender, weights: Path, loads: Sequence[float], seconds: float, batch: int
) -> list[Row]:
    """One server under every load, lightest first."""
    ours, theirs = cores.pair()
    deadlines = [DEADLINE * alone for alone in case.alone]
    tuned = Tuned(str(weights), batch, max(deadlines), free_port())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = []
        for number, (pair, frame) in enumerate(zip(case.pairs, case.frames, strict=True)):
            request, expected = folder / f"{number}.request", folder / f"{number}.answer"
            request.write_bytes(contender.request(pair, deadlines[number]))
            expected.write_bytes(frame.tobytes())
            kinds.append(load.Kind(str(request), str(expected)))
        plan = load.Plan(tuned.port, tuple(kinds), patience=4 * max(deadlines))
        with running(contender, tuned, ",".join(case.sizes), ours, folder / "log"):
            _await(plan, theirs, folder / "log")
            rows = []
            for number, share in enumerate(loads):
                rate = share * case.capacity
                due = load.poisson(rate, seconds, range(len(kinds)), seed=number)
                fired = load.run(dataclasses.replace(plan, due=due), theirs)
                rows.append(summarise(contender.name, share, rate, fired.shots, deadlines, seconds))
                print(line(rows[-1]), flush=True)
            return rows


def _await(plan: load.Plan, core: int | None, log: Path) -> None:
    """Return once a few of every kind were answered rightly: what adapts to load has seen some."""
    end = time.monotonic() + PATIENCE
    warm = dataclasses.replace(plan, connections=len(plan.kinds), seconds=0.5, patience=PATIENCE)
    while time.monotonic() < end:
        shots = load.run(warm, core).shots
        if shots and all(shot.right for shot in shots):
            load.run(dataclasses.replace(warm, seconds=RUSH, connections=2 * BATCH), core)
            time.sleep(SETTLE)  # what the rush left behind is no light load's
            return
        time.sleep(0.2)
    raise RuntimeError(f"no right answer within {PATIENCE:.0f} s:\n{log.read_text(errors='replace')[-3000:]}")


def summarise(
    server: str, share: float, rate: float, shots: Sequence[load.Shot], deadlines: Sequence[float], seconds: float
) -> Row:
    """What became of the requests of one load."""
    right = [shot for shot in shots if shot.right]
    on_time = sum(shot.took <= deadlines[shot.kind] for shot in right)
    p50, p99 = np.percentile([shot.took for shot in right], [50, 99]) if right else (np.nan, np.nan)
    last = max([seconds, *(shot.at + shot.took for shot in right)])
    return Row(
        server,
        share,
        rate,
        len(right) / last,
        on_time / len(shots),
        1 - len(right) / len(shots),
        float(p50),
        float(p99),
    )


HEAD = "| server | load | offered /s | right answers /s | on time | errors | p50 ms | p99 ms |\n|" + "---|" * 8


def line(row: Row) -> str:
    """One line of the table."""
    return (
        f"| {row.server} | {row.load:g} | {row.offered:.1f} | {row.answered:.1f} | {row.on_time:.0%} "
        f"| {row.errors:.0%} | {row.p50 * 1e3:.0f} | {row.p99 * 1e3:.0f} |"
    )


def main() -> int:
    """Print the table, keep it, or draw kept ones."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--sizes", nargs="+", default=["256x448"], help="height x width, multiples of 16")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each load")
    parser.add_argument("--loads", nargs="+", type=float, default=LOADS, help="shares of the bare executor's capacity")
    parser.add_argument("--batch", type=int, default=BATCH, help="largest batch of every server")
    parser.add_argument("--peers", nargs="+", default=names, choices=names)
    parser.add_argument("--weights", type=Path, default=Path(checkpoint.DEFAULT))
    parser.add_argument("--save", type=Path, help="keep the rows here")
    parser.add_argument("--draw", nargs="+", type=Path, help="an image to draw, and kept rows")
    asked = parser.parse_args()
    if asked.draw:
        plot.draw(asked.draw[0], [json.loads(path.read_text()) for path in asked.draw[1:]])
        return 0
    case = prepare(asked.weights, asked.sizes, cores.pair()[0])
    alone = ", ".join(f"{s} {t * 1e3:.1f} ms" for s, t in zip(case.sizes, case.alone, strict=True))
    print(
        f"{describe()}\none core for a server, another for the load; alone: {alone}; deadline {DEADLINE:g} times that"
    )
    print(HEAD)
    rows: list[Row] = []
    for contender in CONTENDERS:
        if contender.name not in asked.peers:
            continue
        if not contender.python.exists():
            print(f"| {contender.name} | not installed: scripts/bench-peers |")
            continue
        rows += compare(case, contender, asked.weights, asked.loads, asked.seconds, asked.batch)
        if asked.save:
            kept = {"sizes": asked.sizes, "rows": [dataclasses.asdict(row) for row in rows]}
            asked.save.write_text(json.dumps(kept, indent=1))
    print(f"again: python -m benchmarks.peers --sizes {' '.join(asked.sizes)} --seconds {asked.seconds:g}")
    return 0 if all(row.answered for row in rows if row.server == OURS) else 1


if __name__ == "__main__":
    raise SystemExit(main())
