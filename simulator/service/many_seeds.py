"""Plays a range of seeds, and keeps each result in a file, from which a run that broke off goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.service.run import Outcome

#: The sources that decide what a seed shows.
SOURCES = ("service", "simulator", "model")


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What is kept of one seed. `key`: of the code and the way in which it was played; `cpu_s`: seconds of one core."""

    seed: int
    key: str
    virtual_s: float
    cpu_s: float
    commands: int
    breaches: tuple[str, ...]

    def line(self) -> str:
        """Return the line of a file."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def play_all(
    seeds: Iterable[int], play: Callable[[int], Outcome], path: Path | None = None, key: str = ""
) -> list[SeedResult]:
    """Play those seeds of which `path` has no result of this `key`, and append theirs; return all results in order."""
    earlier: dict[int, SeedResult] = {}
    if path is not None:
        earlier = {result.seed: result for result in read_results(path) if result.key == key}
        if path.exists() and not path.read_bytes().endswith(b"\n"):  # the last line was cut off
            with path.open("a") as file:
                file.write("\n")
    results = []
    for seed in seeds:
        result = earlier.get(seed)
        if result is None:
            result = _played(seed, play, key)
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(result.line())
        results.append(result)
    return results


def read_results(path: Path) -> Iterator[SeedResult]:
    """Read the results of a file, if there is one. A line that was cut off is passed over."""
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        yield SeedResult(**{**values, "breaches": tuple(values["breaches"])})


def sums(results: Sequence[SeedResult]) -> str:
    """Add results up in a sentence that tells the speed, and how dense the simulated seconds are."""
    broken = [result.seed for result in results if result.breaches]
    cpu_s = max(1e-9, sum(result.cpu_s for result in results))
    virtual_s = max(1e-9, sum(result.virtual_s for result in results))
    commands = sum(result.commands for result in results)
    return (
        f"{len(results)} seeds, {len(broken)} broke a promise{': ' * bool(broken)}{', '.join(map(str, broken))}; "
        f"{virtual_s:.0f} simulated seconds in {cpu_s:.0f} s of one core: {virtual_s / cpu_s:.0f} a second, "
        f"with {commands / virtual_s:.0f} commands in each"
    )


def fingerprint() -> str:
    """Return a digest of our sources, Python and Lua."""
    digest, root = hashlib.sha256(), Path(__file__).parents[2]
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".lua"):
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _played(seed: int, play: Callable[[int], Outcome], key: str) -> SeedResult:
    start = time.process_time()
    outcome = play(seed)
    cpu_s = time.process_time() - start
    breaches = tuple(map(str, outcome.verdict.breaches))
    return SeedResult(seed, key, round(outcome.virtual_s, 6), round(cpu_s, 6), outcome.commands, breaches)
