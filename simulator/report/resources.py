"""What a fleet needs besides its workers, and what a million frames cost: arithmetic, no simulation.

Figures of 720p frames from docs/scaling.md section 3 (codecs M, bytes A) and from the measured table (Redis M).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.calibration.table import Table
from simulator.report.report import Grid

#: Core seconds of two decoded and one encoded frame (M, docs/scaling.md section 3; a test compares them).
PNG, JPEG = 0.018 + 0.004, 0.008 + 0.004
#: Bytes of a raw 720p frame, and of a JPEG one as docs/scaling.md section 4 takes it (A).
RAW, FILE = 3 * 720 * 1280, 300_000
#: Of one link (A), and how busy anything may be on average (docs/scaling.md section 2).
LINK_BITS, BUSY = 10e9, 0.6


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one 720p call: core seconds of Redis' thread, and bytes through it, frames raw or as JPEG files."""

    redis_thread: float
    redis_raw: float = 2 * (2 * RAW + RAW)  # two frames in and out, the answer in and out
    redis_file: float = 2 * (2 * FILE + RAW)  # an awaited answer travels raw

    @classmethod
    def of(cls, table: Table) -> Needs:
        """Read the measured seconds of Redis' thread."""
        return cls(next(row.server for row in table.redis if (row.height, row.width) == (720, 1280)))

    def workers_until_full(self, rate: float) -> list[tuple[str, float]]:
        """List what one of each carries, in workers that answer `rate` frames a second each; the scarcest first."""
        full = {
            "Redis' 10 Gbit/s link, raw frames": LINK_BITS / 8 / self.redis_raw,
            "Redis' 10 Gbit/s link, JPEG in": LINK_BITS / 8 / self.redis_file,
            "Redis' one thread, raw frames": 1 / self.redis_thread,
        }
        return sorted(((name, frames / rate) for name, frames in full.items()), key=lambda row: row[1])


def grid(rate: float, workers: Sequence[int], needs: Needs) -> Grid:
    """List what each number of workers needs in front of it."""
    rows = []
    for count in workers:
        frames = count * rate
        over = [name for name, limit in needs.workers_until_full(rate) if count > limit]
        rows.append(
            (
                f"{count:,}",
                f"{frames:,.1f}",
                f"{frames * PNG / BUSY:,.1f}",
                f"{frames * JPEG / BUSY:,.1f}",
                f"{8 * frames * 3 * RAW / 1e9:,.2f}",
                f"{8 * frames * needs.redis_raw / 1e9:,.2f}",
                f"{8 * frames * needs.redis_file / 1e9:,.2f}",
                f"{frames * needs.redis_thread:,.2f}",
                "; ".join(over) or "nothing",
            )
        )
    first = needs.workers_until_full(rate)
    caption = "In front of the workers (A on M; of one Redis): " + ", ".join(
        f"{name} is full at {limit:,.0f} workers" for name, limit in first
    )
    header = (
        "workers",
        "frames a second",
        "front-end cores, PNG",
        "JPEG",
        "front ends' Gbit/s, raw",
        "Redis' Gbit/s, raw",
        "JPEG in",
        "Redis' threads, raw",
        "more than one Redis has",
    )
    return Grid(caption + ".", header, rows)


def hours_per_million(seconds: float) -> float:
    """Return hours for a million frames of `seconds` each, of a device or core that is busy 0.6 of its time."""
    return 1e6 * seconds / BUSY / 3600


def cost_per_million(seconds: float, price: float, codec: float = 0.0, core_price: float = 0.0) -> float:
    """Return a price in the currency of `price` and `core_price`, per hour of a worker and of a front-end core."""
    return hours_per_million(seconds) * price + hours_per_million(codec) * core_price


def costs(table: Table) -> Grid:
    """List hours to multiply with one's own prices."""
    rows = []
    for height, width in table.sizes():
        for blocks, route in (("four", "100110100"), ("nine", "1" * 9)):
            seconds = table.seconds(height, width, route)
            rows.append((f"{height}x{width}", blocks, f"{1000 * seconds:.1f}", f"{hours_per_million(seconds):,.0f}"))
    caption = (
        "Cost of a million frames (A on M) = worker hours × price of a worker hour + front-end core hours × price of a "
        f"core hour, both {BUSY:g} busy. Front ends at 720p: PNG {hours_per_million(PNG):,.0f} core hours, JPEG "
        f"{hours_per_million(JPEG):,.0f}. Workers, this machine:"
    )
    return Grid(caption, ("frame", "blocks", "ms (M)", "worker hours a million"), rows)
