"""What one question came to: tables for people, plain numbers for JSON, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Grid:
    """A table and what it shows."""

    caption: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """Format as Markdown, with a line for the caption."""
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join([self.caption, "", *("| " + " | ".join(line) + " |" for line in lines)])


@dataclass(frozen=True, slots=True)
class Answer:
    """To one question. `draw` writes its picture, if it has one."""

    name: str
    title: str
    grids: list[Grid]
    data: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    draw: Callable[[Path], None] | None = None
    alt: str = ""
    requests: int = 0
    events: int = 0
    seconds: float = 0.0  #: of this machine's processor

    @property
    def picture(self) -> str:
        """Return the picture's file name."""
        return f"simulated-{self.name}.png"


def percent(share: float, digits: int = 1) -> str:
    """Format a share as a percentage: 0.123 -> 12.3 %."""
    return f"{100 * share:.{digits}f} %"
