"""Every link of our Markdown files leads somewhere, and every decision can be linked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.e2e.process import ROOT

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|mailto:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


#: Folders at the top that git ignores or does not know.
_FOREIGN = {"run", "data", "dist", "build"}


def _markdown_files() -> list[Path]:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in _FOREIGN]
    return sorted([*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))])


def _anchors(path: Path) -> set[str]:
    """Return the anchors that a forge gives the headings of `path`: lower case, no punctuation, hyphens for spaces."""
    headings = _HEADING.findall(_FENCED.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", _markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    broken = []
    for link in _LINK.finditer(_FENCED.sub("", path.read_text())):
        target = (path.parent / link["path"]).resolve() if link["path"] else path
        if not target.exists() or (link["anchor"] and link["anchor"] not in _anchors(target)):
            broken.append(link[0])
    assert broken == []


def test_every_decision_has_a_heading_and_a_line_in_the_index() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    headings = re.findall(r"^## (\d+\. .+)$", text, re.MULTILINE)
    numbers = [int(heading.split(".")[0]) for heading in headings]
    assert re.findall(r"^- \[(\d+\. .+)\]\(#[^)]+\)$", text, re.MULTILINE) == headings
    assert numbers == sorted(set(numbers))
    assert re.findall(r"^\d+\. .*$", text, re.MULTILINE) == []  # none in a plain list, which nothing can link
