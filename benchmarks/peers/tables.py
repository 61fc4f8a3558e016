"""A comparison as tables of Markdown: every figure, or what a reader wants first."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.contenders import OURS
from benchmarks.peers.intervals import Estimate
from benchmarks.peers.results import Comparison, Row, ahead

HEAD = (
    "| server | load | requests | offered /s | right answers /s | on time, % | errors, % | p50, ms | p99, ms |\n|"
    + "---|" * 9
)


def line(row: Row) -> str:
    """Return one line of the table of every figure."""
    cells = (
        row.server,
        f"{row.load:g}",
        f"{row.requests}",
        f"{row.offered:.1f}",
        f"{row.answered:.1f}",
        bounded(row.on_time, 100),
        f"{100 * row.errors:.0f}",
        bounded(row.p50, 1e3),
        bounded(row.p99, 1e3),
    )
    return f"| {' | '.join(cells)} |"


def bounded(estimate: Estimate | None, factor: float) -> str:
    """Write a figure times `factor` with its interval, as far as that has bounds."""
    if estimate is None:
        return "-"
    figure, low, high = (
        "" if end is None else str(round(factor * end)) for end in (estimate.value, estimate.low, estimate.high)
    )
    if low and high:
        return f"{figure} ({low} to {high})"
    return f"{figure} (from {low})" if low else figure


def terms(comparison: Comparison) -> str:
    """Say in a sentence what was asked, and of which machine."""
    alone = ", ".join(
        f"{size} takes {1e3 * seconds:.1f} ms alone"
        for size, seconds in zip(comparison.sizes, comparison.alone, strict=True)
    )
    return f"{alone}; {comparison.seconds:g} s a load, batches of {comparison.batch} at most. {comparison.machine}."


def every_figure(comparison: Comparison) -> str:
    """Return the terms and a table with a line for each server and load, servers in order of measuring."""
    lines = [line(row) for server in servers(comparison) for row in _of(comparison, server)]
    return "\n".join([terms(comparison), "", HEAD, *lines])


def shares_on_time(comparison: Comparison) -> str:
    """Return the terms, a table of shares on time and latencies at light load, and one of how far ours is ahead."""
    loads = sorted({row.load for row in comparison.rows})
    head = ["server", *_titles(loads), "p50, ms, at the lightest", "p99, ms, at the lightest"]
    lines = []
    for server in servers(comparison):
        rows = [comparison.row(server, share) for share in loads]
        shares = [bounded(row.on_time, 100) if row else "-" for row in rows]
        lightest = rows[0]
        latencies = [bounded(lightest.p50, 1e3), bounded(lightest.p99, 1e3)] if lightest else ["-", "-"]
        lines.append([server, *shares, *latencies])
    return f"{terms(comparison)}\n\n{_table(head, lines)}{_ours_ahead(comparison, loads)}"


def _ours_ahead(comparison: Comparison, loads: Sequence[float]) -> str:
    lines = []
    for server in servers(comparison):
        pairs = [(comparison.row(OURS, share), comparison.row(server, share)) for share in loads]
        cells = [bounded(ahead(ours, theirs), 100) if ours and theirs else "-" for ours, theirs in pairs]
        if server != OURS and any(cell != "-" for cell in cells):
            lines.append([server, *cells])
    words = "Percent of the same requests that ours answered on time, less those that the other did:"
    return f"\n\n{words}\n\n{_table(['server', *_titles(loads)], lines)}" if lines else ""


def _titles(loads: Sequence[float]) -> list[str]:
    return [f"{share:g} x capacity" for share in loads]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def servers(comparison: Comparison) -> Sequence[str]:
    """Return the servers in order of measuring."""
    return list(dict.fromkeys(row.server for row in comparison.rows))


def _of(comparison: Comparison, server: str) -> list[Row]:
    return sorted((row for row in comparison.rows if row.server == server), key=lambda row: row.load)
