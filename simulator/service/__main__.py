"""Runs seeds, one seed with its trace, or the planted faults; the exit code tells whether all was as it should be."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from simulator.service.planted import FAULTS, caught
from simulator.service.run import Outcome, Plan, Simulation

#: Breaches of one seed that are shown.
SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb of the command line; return the exit code."""
    namespace = _parser().parse_args(arguments)
    if namespace.verb == "planted":
        return planted()
    if namespace.verb == "seed":
        return seed(namespace.number, namespace.trace)
    return seeds(namespace.first, namespace.count)


def seeds(first: int, count: int) -> int:
    """Play many seeds, print those that broke a promise, and how fast it went."""
    start, virtual_s, broken = time.process_time(), 0.0, 0
    for number in range(first, first + count):
        outcome = Simulation(Plan.draw(number)).run()
        virtual_s += outcome.virtual_s
        if not outcome.verdict.sound:
            broken += 1
            print(_text(outcome), flush=True)
    seconds = time.process_time() - start
    print(
        f"{count} seeds from {first}: {broken} broke a promise; {virtual_s:.0f} simulated seconds in {seconds:.0f} s "
        f"of one core, {virtual_s / max(seconds, 1e-9):.0f} a second"
    )
    return 1 if broken else 0


def seed(number: int, path: Path | None) -> int:
    """Play one seed, and write its trace, the same bytes each time."""
    lines: list[str] = []
    outcome = Simulation(Plan.draw(number), lines.append).run()
    if path is not None:
        path.write_text("\n".join(lines))
    faults = [line for line in lines if " fault: " in line]
    print("\n".join([*faults, _text(outcome)]))
    return 0 if outcome.verdict.sound else 1


def planted() -> int:
    """Plant each fault, and tell which were caught; those seeds without a fault must be sound."""
    missed = 0
    for fault in FAULTS:
        outcome, sound = caught(fault), Simulation(fault.plan()).run().verdict.sound
        is_caught = sound and not outcome.verdict.sound
        missed += not is_caught
        why = outcome.verdict.breaches[0] if is_caught else "not caught" if sound else "its seed is broken without it"
        print(f"{'caught' if is_caught else 'MISSED'}  {fault.name}: {why!s:.120}", flush=True)
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} planted faults caught")
    return 1 if missed else 0


def _text(outcome: Outcome) -> str:
    breaches = outcome.verdict.breaches
    lines = [f"seed {outcome.plan.seed}: {outcome.plan}", f"  calls {outcome.calls}, trace {outcome.digest[:16]}"]
    lines += [f"  {breach}" for breach in breaches[:SHOWN]]
    if len(breaches) > SHOWN:
        lines.append(f"  and {len(breaches) - SHOWN} more")
    return "\n".join(lines if breaches else [*lines, "  every promise was kept"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator.service", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    many = verbs.add_parser("seeds", help="many seeds")
    many.add_argument("count", type=int, nargs="?", default=100)
    many.add_argument("--first", type=int, default=0)
    one = verbs.add_parser("seed", help="one seed")
    one.add_argument("number", type=int)
    one.add_argument("--trace", type=Path, help="a file for every command and answer")
    verbs.add_parser("planted", help="faults put into the service on purpose")
    return parser


if __name__ == "__main__":
    sys.exit(main())
