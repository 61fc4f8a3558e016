"""What docs/architecture.md names is there: the modules of a request's life, and the functions that decide in it."""

from __future__ import annotations

import ast
import re

from tests.system.e2e.process import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()
LIFE = TEXT.split("## A request's life")[1]
FUNCTION = re.compile(r"`(?:\w+\.)?([A-Z]\w+)\.(\w+)`")


def _missing(cell: str) -> list[str]:
    """Return the names of a cell that are no module or package; a bare name may lie beside the one before it."""
    missing, folder = [], ""
    for name in re.findall(r"`([a-z_/]+)`", cell):
        places = [ROOT / "service" / folder / name, ROOT / "service" / name, ROOT / name]
        place = next((place for place in places if place.is_dir() or place.with_suffix(".py").is_file()), None)
        if place is None:
            missing.append(name)
        folder = name.rpartition("/")[0] or folder
    return missing


def _methods() -> set[tuple[str, str]]:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "service").rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {(cls.name, node.name) for cls in classes for node in cls.body if isinstance(node, kinds)}


def test_every_module_of_a_requests_life_is_there() -> None:
    cells = re.findall(r"^\| \d+ \|.*\| (.+) \|$", LIFE, re.MULTILINE)
    assert len(cells) == 16
    assert [name for cell in cells for name in _missing(cell)] == []


def test_every_function_that_the_page_names_is_there() -> None:
    named = set(FUNCTION.findall(TEXT))
    assert ("Session", "push") in named
    assert named - _methods() == set()


def test_every_room_of_the_table_is_there() -> None:
    first_cells = re.findall(r"^\| (`.+?`.*?) \|", TEXT.split("## A request's life")[0], re.MULTILINE)
    assert len(first_cells) > 15
    rooms = [room for cell in first_cells for room in re.findall(r"`(.+?)`", cell)]
    beside = [ROOT, ROOT / "service", ROOT / "model"]
    assert [room for room in rooms if not any((place / room).exists() for place in beside)] == []


def test_every_module_at_the_top_of_the_service_has_a_room() -> None:
    rooms = set(re.findall(r"`(?:service/)?(\w+\.py)`", TEXT.split("## A request's life")[0]))
    modules = {path.name for path in (ROOT / "service").glob("*.py") if not path.name.startswith("__")}
    assert len(modules) > 15
    assert sorted(modules - rooms) == []
