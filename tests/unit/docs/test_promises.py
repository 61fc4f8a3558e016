"""What the pages name is there: tests behind promises, commands, settings, metrics, and the glossary's classes."""

from __future__ import annotations

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest

from model.__main__ import VERBS as MODEL_VERBS
from service.__main__ import VERBS as SERVICE_VERBS
from service.settings import PREFIX, Settings
from tests.system.e2e.process import ROOT

#: Pages that tell how things are; the changelog, the decisions and the benchmarks' history tell how they were, too.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "client/README.md", "benchmarks/README.md")),
    *sorted(
        path for path in (ROOT / "docs").glob("*.md") if path.name not in ("decisions.md", "benchmarks-history.md")
    ),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
TEXT = "\n".join(TEXTS.values())
#: Names of ours that begin as metrics do: a model, the client library, generated code.
NO_METRICS = {"dmvfn_image", "dmvfn_client", "dmvfn_pb2", "dmvfn_pb2_grpc"}


@cache
def _trees() -> list[ast.Module]:
    paths = [path for top in ("service", "model") for path in (ROOT / top).rglob("*.py") if "_pb2" not in path.name]
    return [ast.parse(path.read_text()) for path in paths]


def _has_tests(path: Path) -> bool:
    return any(file.name.startswith("test_") for file in ([path] if path.is_file() else path.rglob("*.py")))


def test_every_promise_names_a_test_that_is_there() -> None:
    table = TEXTS["docs/operations.md"].split("## What is guaranteed, and the test of each")[1]
    rows = re.findall(r"^\| (?!promise|---)(.+) \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) > 25
    tests = {promise: re.findall(r"`(tests/[\w/.]+)`", cell) for promise, cell in rows}
    assert [promise for promise, names in tests.items() if not any(_has_tests(ROOT / name) for name in names)] == []


def test_every_file_of_ours_that_a_page_names_is_there() -> None:
    names = set(re.findall(r"`((?:tests|scripts|deploy|benchmarks|model|service|client)/[\w/.-]+)`", TEXT))
    names = {name for name in names if "NAME" not in name}  # of any file of a folder
    assert len(names) > 60
    beside = (ROOT, ROOT / "service", ROOT / "model")
    missing = [n for n in names if not any((at / end).exists() for at in beside for end in (n, f"{n}.py"))]
    assert missing == []


def test_every_command_that_a_page_names_is_there() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {verb for span in re.findall(r"`([^`\n]+)`", TEXT) for verb in re.findall(r"\bmake ([a-z-]+)", span)}
    assert len(named) > 15
    assert named - verbs == set()
    assert set(re.findall(r"python -m service ([a-z-]+)", TEXT)) <= set(SERVICE_VERBS)
    assert set(re.findall(r"python -m model ([a-z-]+)", TEXT)) <= set(MODEL_VERBS)
    modules = set(re.findall(r"python -m ((?:benchmarks|simulator|tests)[\w.]*)", TEXT))
    places = {name: ROOT / name.replace(".", "/") for name in modules}
    runnable = {n for n, at in places.items() if at.with_suffix(".py").is_file() or (at / "__main__.py").is_file()}
    assert modules - runnable == set()


@pytest.mark.parametrize("verb", SERVICE_VERBS)
def test_every_verb_is_told_of(verb: str) -> None:
    assert re.search(rf"python -m service {verb}\b", TEXT)


def test_every_setting_that_a_page_names_is_one() -> None:
    fields = dataclasses.fields(Settings)
    settings = {f"{PREFIX}{field.name.upper()}" for field in fields}
    settings |= {f"{PREFIX}{field.name.upper()}_FILE" for field in fields if field.metadata["secret"]}
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b", TEXT))
    beginnings = {name for name in named if any(setting.startswith(f"{name}_") for setting in settings)}
    assert len(named) > 60
    assert named - settings - beginnings == set()


def test_every_metric_that_a_page_names_is_one() -> None:
    constants = (node.value for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Constant))
    literals = {text.removeprefix("dmvfn_") for text in constants if isinstance(text, str)}
    named = set(re.findall(r"`(dmvfn_[a-z0-9_]+)[`{]", TEXT)) - NO_METRICS
    assert len(named) > 50
    bare = {name: name.removeprefix("dmvfn_") for name in named}
    assert [name for name, word in bare.items() if not {word, word.removesuffix("_total")} & literals] == []


def test_every_class_of_the_glossary_is_there() -> None:
    glossary = TEXTS["docs/glossary.md"]
    classes = {node.name for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    named = set(re.findall(r"`([A-Z]\w*[a-z]\w*)(?:\.\w+)?`", glossary))
    assert {"Engine", "LocalBackend", "Priority"} <= named
    assert named - classes == set()


def test_the_latest_figures_fit_a_page_of_their_own() -> None:
    assert TEXTS["docs/benchmarks.md"].count("\n") <= 120
