"""The same predictor behind our service and behind others, one core each, under the same open-loop load.

    scripts/bench-peers                    (makes the peers' virtual environments first)
    python -m benchmarks.peers [--sizes 256x448 [128x224]] [--servers ours ...] [--loads 0.2 ...] [--save one.json]
    python -m benchmarks.peers --publish one.json two.json     (tables, figures and image of docs/)

Servers take turns under each load; each sees the same arrivals. Load is a share of what the bare executor can do on
that core, deadlines are a multiple of what it takes alone; several sizes come in equal parts, interleaved by chance.
What is in the file that --save names is not measured again: a comparison can be made in pieces.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import bare, clips, cores, load
from benchmarks.bare import Picture
from benchmarks.machine import describe
from benchmarks.peers import plot, results, tables
from benchmarks.peers.contenders import CONTENDERS, OURS, Contender, running
from benchmarks.peers.handler import Tuned
from benchmarks.peers.publish import publish
from benchmarks.peers.results import Comparison, Row, summarise
from model import checkpoint
from tests.system.e2e.process import free_port

DOCS = Path(__file__).parent.parent.parent / "docs"
#: Offered load as a share of the bare executor's capacity.
LOADS = (0.2, 0.8, 2.0)
#: Seconds of each load.
SECONDS = 60.0
#: A request's deadline as a multiple of its time alone: a batch of four that waited for another is just in time.
DEADLINE = 8.0
BATCH = 4
#: Seconds a server may take until its first right answer: the first start of all compiles the predictor's loops.
PATIENCE = 180.0
#: Seconds for which each size is run alone to know its time.
ALONE = 2.0
#: Seconds of a first rush, which shows a server that adapts to load some, and between that and the first load.
RUSH, SETTLE = 2.0, 2.0


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


def prepare(weights: Path, sizes: Sequence[str], alone: Sequence[float] = ()) -> Case:
    """Make what is asked; `alone`: as an earlier piece of the comparison measured it."""
    pairs = tuple(clips.pair(*clips.size(size)) for size in sizes)
    frames = tuple(bare.Executor(weights, threads=1)([pair])[0] for pair in pairs)
    return Case(tuple(sizes), pairs, frames, tuple(alone) or time_alone(weights, pairs, cores.pair()[0]))


def time_alone(weights: Path, pairs: Sequence[Picture], core: int | None) -> tuple[float, ...]:
    """Measure the bare executor on the core the servers will have: seconds of each pair."""
    alone = []
    with tempfile.TemporaryDirectory() as name, bare.process(weights, core) as executor:
        for pair in pairs:
            np.save(Path(name) / "pair.npy", pair[None])
            spell = executor.run(Path(name) / "pair.npy", bare.AUTO, ALONE)
            alone.append(spell.seconds / spell.frames)
    return tuple(alone)


def compare(
    case: Case, contender: Contender, weights: Path, loads: Sequence[float], seconds: float, batch: int
) -> Iterator[Row]:
    """Start one server and put it under `loads`, one after the other. RuntimeError where it gives no right answer."""
    ours, theirs = cores.pair()
    deadlines = [DEADLINE * alone for alone in case.alone]
    tuned = Tuned(str(weights), batch, max(deadlines), free_port())
    # What a server started may still write while it is being killed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        kinds = []
        for number, (pair, frame) in enumerate(zip(case.pairs, case.frames, strict=True)):
            request, expected = folder / f"{number}.request", folder / f"{number}.answer"
            request.write_bytes(contender.request(pair, deadlines[number]))
            expected.write_bytes(contender.answer(frame))
            kinds.append(load.Kind(str(request), str(expected)))
        plan = load.Plan(tuned.port, tuple(kinds), patience=4 * max(deadlines))
        with running(contender, tuned, ",".join(case.sizes), ours, folder / "log"):
            _await(plan, theirs, folder / "log")
            for share in loads:
                rate = share * case.capacity
                # The same arrivals for every server, whichever loads it is put under before.
                due = load.poisson(rate, seconds, range(len(kinds)), seed=round(1000 * share))
                fired = load.run(dataclasses.replace(plan, due=due), theirs)
                yield summarise(contender.name, share, rate, fired.shots, deadlines, seconds)


def _await(plan: load.Plan, core: int | None, log: Path) -> None:
    """Return once one of every kind was answered rightly, and a rush after it: what adapts to load has seen some."""
    end = time.monotonic() + PATIENCE
    once = dataclasses.replace(plan, due=tuple((0.0, kind) for kind in range(len(plan.kinds))), patience=PATIENCE)
    while time.monotonic() < end:
        if all(shot.right for shot in load.run(once, core).shots):
            load.run(dataclasses.replace(plan, seconds=RUSH, connections=2 * BATCH), core)
            time.sleep(SETTLE)  # what the rush left behind is no light load's
            return
        time.sleep(0.2)
    raise RuntimeError(f"no right answer within {PATIENCE:.0f} s:\n{log.read_text(errors='replace')[-3000:]}")


def turns(
    comparison: Comparison, servers: Sequence[str], loads: Sequence[float], *, by_server: bool
) -> list[tuple[str, tuple[float, ...]]]:
    """What is left to measure, in order: a server and the loads for which it is started once.

    All servers under one load stand close together, so that a change of the machine meets all of them; `by_server`
    starts each but once, which saves the starts.
    """
    left = {name: tuple(share for share in loads if comparison.row(name, share) is None) for name in servers}
    if by_server:
        return [(name, shares) for name, shares in left.items() if shares]
    return [(name, (share,)) for share in loads for name in servers if share in left[name]]


def carry_out(comparison: Comparison, case: Case, arguments: argparse.Namespace) -> Comparison:
    """Measure what is left, print each line as it is known, and keep it."""
    contenders = {contender.name: contender for contender in CONTENDERS if contender.name in arguments.servers}
    for name in [name for name, contender in contenders.items() if not contender.python.exists()]:
        print(f"{name} is not installed and left out: scripts/bench-peers installs it")
        del contenders[name]
    left = turns(comparison, list(contenders), arguments.loads, by_server=arguments.by_server)
    cells = sum(len(shares) for _, shares in left)
    minutes = (cells * arguments.seconds + len(left) * 10) / 60
    print(
        f"to measure: {cells} loads of {arguments.seconds:g} s, about {minutes:.0f} minutes\n{tables.HEAD}", flush=True
    )
    for name, shares in left:
        try:
            for row in compare(case, contenders[name], arguments.weights, shares, arguments.seconds, arguments.batch):
                comparison = comparison.with_row(row)
                print(tables.line(row), flush=True)
                if arguments.save:
                    results.write(arguments.save, comparison)
        except RuntimeError as error:
            print(f"{name} is left out: {error}", flush=True)
    return comparison


def begin(arguments: argparse.Namespace) -> tuple[Comparison, Case]:
    """Start a comparison, or go on with the one in the file. SystemExit where that one was made on other terms."""
    machine = describe(busy=False)
    fresh = Comparison(machine, tuple(arguments.sizes), arguments.seconds, arguments.batch, alone=())
    earlier = results.read(arguments.save) if arguments.save and arguments.save.exists() else None
    if earlier is None or arguments.anew:
        case = prepare(arguments.weights, arguments.sizes)
        return dataclasses.replace(fresh, alone=case.alone), case
    if not earlier.same_terms(fresh):
        raise SystemExit(f"{arguments.save} has another machine, sizes, seconds or batch: --anew overwrites it")
    return earlier, prepare(arguments.weights, arguments.sizes, earlier.alone)


def parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    made = argparse.ArgumentParser("python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    names = [contender.name for contender in CONTENDERS]
    made.add_argument("--sizes", nargs="+", default=["256x448"], help="height x width, multiples of 16")
    made.add_argument("--seconds", type=float, default=SECONDS, help="of each load")
    made.add_argument("--loads", nargs="+", type=float, default=LOADS, help="shares of the bare executor's capacity")
    made.add_argument("--batch", type=int, default=BATCH, help="largest batch of every server")
    made.add_argument("--servers", nargs="+", default=names, choices=names)
    made.add_argument("--by-server", action="store_true", help="start each server once, for all its loads: quicker")
    made.add_argument("--weights", type=Path, default=Path(checkpoint.DEFAULT))
    made.add_argument("--save", type=Path, help="keep the rows here; those that are there already are not measured")
    made.add_argument("--anew", action="store_true", help="measure all again, whatever the file holds")
    made.add_argument("--draw", nargs="+", type=Path, help="an image to draw, and kept comparisons")
    made.add_argument("--publish", nargs="+", type=Path, help="write kept comparisons into docs/")
    return made


def main() -> int:
    """Print the table, keep it, draw it, or write it into docs/."""
    arguments = parser().parse_args()
    if arguments.draw:
        plot.draw(arguments.draw[0], [results.read(path) for path in arguments.draw[1:]])
        return 0
    if arguments.publish:
        publish(DOCS, [results.read(path) for path in arguments.publish])
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as SIGINT does: the server that runs is ended, too
    comparison, case = begin(arguments)
    print(f"{describe()}\none core for a server, another for the load; deadline {DEADLINE:g} times the time alone")
    comparison = carry_out(comparison, case, arguments)
    print(f"\n{tables.shares_on_time(comparison)}" if comparison.rows else "nothing was measured")
    print(f"again: python -m benchmarks.peers --sizes {' '.join(arguments.sizes)} --seconds {arguments.seconds:g}")
    return 0 if all(row.answered for row in comparison.rows if row.server == OURS) else 1


if __name__ == "__main__":
    raise SystemExit(main())
