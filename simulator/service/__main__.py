"""Runs seeds, one seed with its trace, or the planted faults; the exit code tells whether all was as it should be."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.service.many_seeds import fingerprint, play_all, sums
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
        return seed(namespace.number, namespace.trace, namespace.stretch)
    return seeds(namespace.first, namespace.count, namespace.results, namespace.stretch)


def seeds(first: int, count: int, path: Path | None = None, stretch: float = 1.0) -> int:
    """Play many seeds, print those that broke a promise, and how fast it went."""

    def play(number: int) -> Outcome:
        outcome = Simulation(_plan(number, stretch)).run()
        if not outcome.verdict.sound:
            print(_text(outcome), flush=True)
        return outcome

    gc.collect()
    gc.freeze()  # what was imported need not be looked through between two seeds
    results = play_all(range(first, first + count), play, path, f"{fingerprint()} {stretch:g}")
    print(f"from {first}: {sums(results)}")
    return 1 if any(result.breaches for result in results) else 0


def seed(number: int, path: Path | None, stretch: float = 1.0) -> int:
    """Play one seed, and write its trace, the same bytes each time."""
    lines: list[str] = []
    outcome = Simulation(_plan(number, stretch), lines.append).run()
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


def _plan(number: int, stretch: float) -> Plan:
    plan = Plan.draw(number)
    return plan if stretch == 1 else plan.stretched(stretch)


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
    many.add_argument("--results", type=Path, help="a file of results, to which a run that broke off adds the rest")
    one = verbs.add_parser("seed", help="one seed")
    one.add_argument("number", type=int)
    one.add_argument("--trace", type=Path, help="a file for every command and answer")
    for verb in (many, one):
        verb.add_argument("--stretch", type=float, default=1.0, help="times as long for as much harm and as many calls")
    verbs.add_parser("planted", help="faults put into the service on purpose")
    return parser


if __name__ == "__main__":
    sys.exit(main())
