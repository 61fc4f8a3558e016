"""What is installed is pinned, and what is asked for is what is pinned."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
#: Each .in file and the locked files that together install what it asks for.
LOCKED = {
    "front-end.in": ["service.txt"],
    "service.in": ["torch.txt", "service.txt"],
    "dev.in": ["torch.txt", "service.txt", "dev.txt"],
}


def wanted(name: str) -> list[Requirement]:
    """The lines of a requirements file."""
    lines = (line.partition(" #")[0].strip() for line in (FOLDER / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(*names: str) -> dict[str, str]:
    """Package -> version of locked files."""
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for name in names for r in wanted(name)}


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.txt") if not path.name.startswith("apt")))
def test_every_locked_requirement_is_one_exact_version(name: str) -> None:
    loose = [str(r) for r in wanted(name) if not re.fullmatch(r"==[0-9][^*,]*", str(r.specifier)) or r.url]
    assert loose == []


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_what_is_asked_for_is_locked_within_its_range(name: str) -> None:
    locked = pins(*LOCKED[name])
    wrong = [str(r) for r in wanted(name) if not r.specifier.contains(locked.get(canonicalize_name(r.name), "none"))]
    assert wrong == []


def test_a_front_end_needs_nothing_that_the_service_does_not() -> None:
    """The same words in both files: a range that changes in one changes in the other."""
    assert {str(line) for line in wanted("front-end.in")} <= {str(line) for line in wanted("service.in")}


def test_the_package_asks_for_what_the_service_locks() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    locked = pins("torch.txt", "service.txt")
    for line in asked:
        requirement = Requirement(line)
        version = locked.get(canonicalize_name(requirement.name), "")
        assert requirement.specifier.contains(version), line


def test_no_package_is_pinned_to_two_versions() -> None:
    assert set(pins("service.txt")) & set(pins("dev.txt")) == set()
    assert set(pins("torch.txt")) & set(pins("service.txt", "dev.txt")) == set()


def test_whatever_a_pinned_package_needs_is_pinned() -> None:
    """Else two installations of one commit could differ. What torch brings for its GPU is torch's own choice."""
    locked = pins("torch.txt", "service.txt", "dev.txt")
    brought = torch_brings()
    loose = set()
    for name in locked:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # a pin for another platform, or one that is not installed here
        for line in needs:
            requirement = Requirement(line)
            needed = canonicalize_name(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and needed not in locked and needed not in brought:
                loose.add(f"{name} needs {needed}")
    assert loose == set()


def torch_brings() -> set[str]:
    """The closure of what torch asks for, pip's own tools included."""
    found, left = {"setuptools", "pip", "wheel"}, ["torch"]
    while left:
        name = left.pop()
        found.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        left += [
            canonicalize_name(Requirement(line).name)
            for line in needs
            if canonicalize_name(Requirement(line).name) not in found
        ]
    return found
