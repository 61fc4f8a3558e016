"""Asks the questions, prints the answers, and writes them into docs/ where told to."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import simulator
from simulator.calibration.table import COMMITTED, Table
from simulator.experiments.registry import QUESTIONS, ask
from simulator.report import resources
from simulator.report.report import Answer, percent

PAGE = Path("docs/scaling.md")
MARKED = re.compile(r"(<!-- simulated -->\n).*?(<!-- /simulated -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb of the command line; return the exit code."""
    namespace = _parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], None] = namespace.verb
    verb(namespace)
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Simulate the questions asked for, print the answers and, with --write, put them into docs/."""
    table = Table.read(arguments.table)
    print(_source(table, arguments.table), flush=True)
    answers = []
    with ProcessPoolExecutor(min(arguments.processes, len(arguments.only)), get_context("spawn")) as pool:
        for answer in pool.map(partial(ask, table=table, effort=arguments.effort, seed=arguments.seed), arguments.only):
            answers.append(answer)
            print(f"\n{text(answer)}", flush=True)
    if arguments.write:
        write(answers, table, arguments)


def text(answer: Answer, picture: str = "") -> str:
    """Format one answer as Markdown, `picture` last."""
    effort = (
        f"{answer.requests:,} requests, {answer.events:,} events, {answer.seconds:.0f} s of one core "
        f"({1e6 * answer.seconds / answer.requests:.0f} µs a request)."
    )
    parts = [f"### {answer.title} (simulated)", *answer.notes, effort, *(grid.markdown() for grid in answer.grids)]
    return "\n\n".join([*parts, picture] if picture else parts)


def write(answers: list[Answer], table: Table, arguments: argparse.Namespace) -> None:
    """Write the marked section of docs/scaling.md, docs/simulated.json and the pictures."""
    parts = [_source(table, arguments.table)]
    for answer in answers:
        if answer.draw:
            answer.draw(PAGE.parent / answer.picture)
        parts.append(text(answer, f"![{answer.alt}]({answer.picture})"))
    page = PAGE.read_text()
    if not MARKED.search(page):
        raise SystemExit(f"{PAGE}: the markers <!-- simulated --> and <!-- /simulated --> are gone")
    section = "\n\n".join(parts)
    PAGE.write_text(MARKED.sub(lambda match: f"{match[1]}{section}\n{match[2]}", page))
    document = {
        "simulated": True,
        "costs_measured_on": table.machine,
        "effort": arguments.effort,
        "seed": arguments.seed,
        "answers": {answer.name: answer.data for answer in answers},
    }
    PAGE.with_name("simulated.json").write_text(json.dumps(document, indent=None, separators=(",", ":")) + "\n")


def measure(arguments: argparse.Namespace) -> None:
    """Measure this machine's costs into the file `--out`."""
    from simulator.calibration.measure import measure as measure_costs  # needs torch and a Redis server

    began = time.perf_counter()
    table = measure_costs(arguments.seconds, f"python -m simulator measure --seconds {arguments.seconds:g}")
    table.write(arguments.out)
    print(f"{_source(table, arguments.out)}\nmeasured in {time.perf_counter() - began:.0f} s")


def cost(arguments: argparse.Namespace) -> None:
    """Print the price of a million frames for each size."""
    table = Table.read(arguments.table)
    codecs = {"raw": 0.0, "jpeg": resources.JPEG, "png": resources.PNG}
    if arguments.seconds_per_frame is not None:
        frames = {"your seconds per frame": arguments.seconds_per_frame}
    else:
        frames = {f"{h}x{w}, nine blocks (M: {table.machine})": table.seconds(h, w) for h, w in table.sizes()}
    for name, seconds in frames.items():
        total = resources.cost_per_million(
            seconds, arguments.worker_price, codecs[arguments.images], arguments.core_price
        )
        print(f"{name}: {total:,.2f} a million frames ({percent(resources.BUSY, 0)} busy)")


def _source(table: Table, path: Path) -> str:
    return (
        f"Costs (M, `{path.name}`): {table.machine}; `{table.command}`. What follows from them is **simulated**, "
        "or arithmetic (A)."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m simulator",
        description=simulator.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(verb=run, table=COMMITTED, effort=1.0, seed=0, only=list(QUESTIONS), write=False, processes=2)
    verbs = parser.add_subparsers()
    running = verbs.add_parser("run", help="simulate")
    running.add_argument("--table", type=Path, default=COMMITTED, help="measured costs")
    running.add_argument("--effort", type=float, default=1.0, help="how much to simulate; 1 is what docs/ shows")
    running.add_argument("--seed", type=int, default=0)
    running.add_argument("--only", nargs="+", default=list(QUESTIONS), choices=list(QUESTIONS))
    running.add_argument("--processes", type=int, default=2, help="questions at a time")
    running.add_argument("--write", action="store_true", help="into docs/scaling.md, docs/simulated.json and pictures")
    running.set_defaults(verb=run)
    measuring = verbs.add_parser("measure", help="measure this machine's costs")
    measuring.add_argument("--seconds", type=float, default=20.0, help="for each of three sizes")
    measuring.add_argument("--out", type=Path, required=True)
    measuring.set_defaults(verb=measure)
    costing = verbs.add_parser("cost", help="of a million frames at your prices")
    costing.add_argument("--worker-price", type=float, required=True, help="of an hour of one worker")
    costing.add_argument("--core-price", type=float, default=0.0, help="of an hour of one front-end core")
    costing.add_argument("--images", choices=("raw", "jpeg", "png"), default="raw")
    costing.add_argument("--seconds-per-frame", type=float, help="your device's (docs/scaling.md section 2)")
    costing.add_argument("--table", type=Path, default=COMMITTED)
    costing.set_defaults(verb=cost)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
