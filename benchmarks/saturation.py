"""The service at saturation against the bare executor: the same weights, pairs and routes, on the same one core.

    python -m benchmarks.saturation [--size 256x448] [--routes auto full] [--seconds 5] [--rounds 3] [--all-cores]

Executor and service take turns on one core while the load generator has another; a figure is the ratio of what both did
in all turns. `--all-cores` shares the machine among service and client; processor seconds then say what a frame costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks import bare, clips, cores, load
from benchmarks.bare import Picture, Spell
from benchmarks.machine import describe
from benchmarks.settled import until_settled
from benchmarks.wire import post
from model import checkpoint
from tests.system.e2e.process import Service, service

#: Pairs in a bare batch, and the service's largest batch.
BATCH = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Both contenders' turns added up; client_cpu: processor seconds of the load generator."""

    bare: Spell
    served: Spell
    client_cpu: float
    wrong: int  #: answers that were no success, or not the executor's frame

    @property
    def share(self) -> float:
        """The service's frames a second over the executor's."""
        return (self.served.frames / self.served.seconds) / (self.bare.frames / self.bare.seconds)

    @property
    def added_cpu(self) -> float:
        """Processor seconds a frame that the service takes beyond the executor's."""
        return self.served.cpu / self.served.frames - self.bare.cpu / self.bare.frames


def requests(folder: Path, pairs: Sequence[Picture], expected: Sequence[Picture], route: str) -> list[load.Kind]:
    """Each pair as a raw request to the service, in files."""
    kinds = []
    for number, (pair, frame) in enumerate(zip(pairs, expected, strict=True)):
        _, height, width, _ = pair.shape
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept": "application/octet-stream",
            "X-Frame-Shape": f"2,{height},{width},3",
        }
        request, answer = folder / f"{number}.request", folder / f"{number}.answer"
        request.write_bytes(post(f"/v1/predict?route={route}", headers, pair.tobytes()))
        answer.write_bytes(frame.tobytes())
        kinds.append(load.Kind(str(request), str(answer)))
    return kinds


def turn(running: Service, kinds: Sequence[load.Kind], seconds: float, core: int | None) -> Outcome:
    """The service under load for so long, twice a batch at once; the executor's side is empty."""
    port = urlsplit(running.http).port
    assert port is not None
    before = cores.seconds(running.process.pid)
    fired = load.run(load.Plan(port, tuple(kinds), connections=2 * BATCH, seconds=seconds), core)
    right = sum(shot.right for shot in fired.shots)
    served = Spell(right, fired.seconds, cores.seconds(running.process.pid) - before)
    return Outcome(Spell(0, 0.0, 0.0), served, fired.client_cpu, len(fired.shots) - right)


def add(turns: Sequence[Outcome]) -> Outcome:
    """All turns as one."""
    return Outcome(
        _sum([t.bare for t in turns]),
        _sum([t.served for t in turns]),
        sum(t.client_cpu for t in turns),
        sum(t.wrong for t in turns),
    )


def _sum(spells: Sequence[Spell]) -> Spell:
    return Spell(sum(s.frames for s in spells), sum(s.seconds for s in spells), sum(s.cpu for s in spells))


def measure(
    weights: Path, size: tuple[int, int], routes: Sequence[str], seconds: float, rounds: int, *, all_cores: bool = False
) -> dict[str, Outcome]:
    """Every route's outcome."""
    ours, theirs = (None, None) if all_cores else cores.pair()
    pairs = [clips.pair(*size, number) for number in range(BATCH)]
    executor = bare.Executor(weights, threads=1)
    found: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as name, bare.process(weights, ours) as alone, ExitStack() as stack:
        folder, warm = Path(name), f"{size[0]}x{size[1]}"
        np.save(folder / "pairs.npy", np.stack(pairs))
        with cores.only(ours):
            started = service(
                WEIGHTS=str(weights), THREADS="0", WARMUP_SIZES=warm, MAX_BATCH=str(BATCH), LOG_LEVEL="info"
            )
            running = stack.enter_context(started)
        until_settled(running.process.pid)
        for route in routes:
            kinds = requests(folder, pairs, executor(pairs, route), route)
            turn(running, kinds, min(1.0, seconds), theirs)
            turns = []
            for _ in range(rounds):
                spell = alone.run(folder / "pairs.npy", route, seconds)
                turns.append(dataclasses.replace(turn(running, kinds, seconds, theirs), bare=spell))
            found[route] = add(turns)
    return found


def table(found: dict[str, Outcome]) -> str:
    """The outcomes, one route a line."""
    lines = [
        "| route | executor, frames/s | service, frames/s | service / executor "
        "| executor, CPU ms a frame | service, CPU ms a frame | client, CPU ms a frame |",
        "|---|---|---|---|---|---|---|",
    ]
    for route, outcome in found.items():
        alone, served = outcome.bare, outcome.served
        lines.append(
            f"| `{route}` | {alone.frames / alone.seconds:.1f} | {served.frames / served.seconds:.1f} "
            f"| {outcome.share:.3f} | {alone.cpu / alone.frames * 1e3:.1f} | {served.cpu / served.frames * 1e3:.1f} "
            f"| {outcome.client_cpu / served.frames * 1e3:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where an answer was wrong."""
    parser = argparse.ArgumentParser("python -m benchmarks.saturation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="256x448", help="height x width, multiples of 16")
    parser.add_argument("--routes", nargs="+", default=["auto", "full"])
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all-cores", action="store_true", help="service and client share every core")
    parser.add_argument("--weights", type=Path, default=Path(checkpoint.DEFAULT))
    asked = parser.parse_args()
    size = clips.size(asked.size)
    found = measure(asked.weights, size, asked.routes, asked.seconds, asked.rounds, all_cores=asked.all_cores)
    where = (
        "every core, the client's too" if asked.all_cores or cores.pair()[0] is None else "one core; client on another"
    )
    print(f"{describe()}\n{asked.size}, batches of {BATCH}; {where}\n{table(found)}")
    wrong = sum(outcome.wrong for outcome in found.values())
    print(f"answers that were wrong: {wrong}")
    print(f"again: python -m benchmarks.saturation --size {asked.size} --seconds {asked.seconds:g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
