"""The table that `make chaos` prints: a line for each kind of fault, over all servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from simulator.history import Guarantee
from tests.system.chaos.round import Outcome

HEAD = ("fault", "count", "jobs", "lost", "double", "wrong", "silent", "refused", "left")
#: Notes shown of one round; the rest is counted.
SHOWN = 6
WIDTH = 220


def table(outcomes: Sequence[Outcome]) -> str:
    """Lines of HEAD's columns, the sum last."""
    kinds = list(dict.fromkeys(outcome.kind for outcome in outcomes))
    rows = [_row(kind, [o for o in outcomes if o.kind == kind and not o.skipped]) for kind in kinds]
    rows.append(_row("all", [o for o in outcomes if not o.skipped]))
    return "\n".join(_line(row) for row in (HEAD, *rows))


def _row(kind: str, outcomes: Iterable[Outcome]) -> tuple[object, ...]:
    sums = Counter[str]()
    for o in outcomes:
        sums.update(count=o.faults, jobs=o.verdict.jobs, silent=o.silent, refused=len(o.refused))
        sums.update(
            {p.value: o.verdict.count(p) for p in (Guarantee.LOST, Guarantee.DOUBLE, Guarantee.WRONG, Guarantee.LEFT)}
        )
    return (kind, *(sums[name] for name in HEAD[1:]))


def _line(row: tuple[object, ...]) -> str:
    return f"{row[0]!s:<36}" + "".join(f"{cell!s:>8}" for cell in row[1:])


def details(outcomes: Sequence[Outcome]) -> str:
    """What was skipped, what each kind measured, and all that went wrong."""
    lines = []
    for o in outcomes:
        where = f"{o.kind}, {o.server}"
        if o.skipped:
            lines.append(f"SKIPPED  {where}: {o.skipped}")
            continue
        if o.verdict.unsynced:
            lines.append(
                f"note     {where}: {o.verdict.unsynced} of {o.verdict.jobs} jobs were not yet synced at a power cut, "
                f"the oldest {o.verdict.oldest_s:.1f} s old"
            )
        if o.note:
            lines.append(f"note     {where}: {o.note}")
        wrong = Counter(line[:WIDTH] for line in (*o.refused, *map(str, o.verdict.breaches), *o.verdict.notes))
        lines += [f"WRONG    {where}: {n} x {why}" for why, n in list(wrong.items())[:SHOWN]]
        if len(wrong) > SHOWN:
            lines.append(f"WRONG    {where}: and {len(wrong) - SHOWN} more")
    return "\n".join(lines)
