"""Writes kept comparisons into docs/: the figures themselves, tables between markers, and the image."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import plot, results, tables
from benchmarks.peers.results import Comparison

FIGURES = "peers.json"
PAGES = {"benchmarks.md": tables.shares_on_time, "benchmarks-history.md": tables.every_figure}
_MARKED = re.compile(r"(<!-- peers -->\n).*?(<!-- /peers -->)", re.DOTALL)


def publish(docs: Path, comparisons: Sequence[Comparison]) -> None:
    """Write `comparisons` into the folder `docs`. ValueError where a page has lost its markers."""
    documents = [dataclasses.asdict(comparison) for comparison in comparisons]
    pages = {name: marked(docs / name, comparisons) for name in PAGES}
    (docs / FIGURES).write_text(json.dumps(documents, indent=1) + "\n")
    for name, text in pages.items():
        (docs / name).write_text(text)
    plot.draw(docs / "peers.png", comparisons)


def published(docs: Path) -> list[Comparison]:
    """Return the comparisons that `docs` shows; none before the first was published."""
    path = docs / FIGURES
    return [results.parse(document) for document in json.loads(path.read_text())] if path.exists() else []


def marked(page: Path, comparisons: Sequence[Comparison]) -> str:
    """Return the text of a page with the tables of `comparisons` between its markers."""
    tables_of = PAGES[page.name]
    written = "\n\n".join(tables_of(each) for each in comparisons)
    text, count = _MARKED.subn(lambda match: f"{match[1]}{written}\n{match[2]}", page.read_text())
    if count != 1:
        raise ValueError(f"{page}: the markers <!-- peers --> and <!-- /peers --> are gone")
    return text
