"""Links what the predictor needs from this environment into a folder, so that all peers run the same torch and numpy.

`python -m benchmarks.peers.shared_packages FOLDER` prints what it linked, one `name==version` a line. A virtual
environment takes the folder in by a .pth file; what it has of its own comes first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PREDICTOR = ("torch", "numpy", "numba", "safetensors")


def with_dependencies(names: Iterable[str]) -> dict[str, Distribution]:
    """Return the distributions of `names` and of all that they need, by canonical name."""
    distributions: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in distributions:
            continue
        distributions[name] = distribution(name)
        needed = map(Requirement, distributions[name].requires or ())
        waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return distributions


def link(folder: Path, distributions: Iterable[Distribution]) -> None:
    """Fill `folder` with links to the packages of `distributions` and to their metadata, and with nothing older."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_symlink():
            old.unlink()
    for each in distributions:
        tops = {Path(str(file)).parts[0] for file in each.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not top.endswith(".pth"):
                (folder / top).symlink_to(Path(str(each.locate_file(top))))


def main() -> None:
    """Link, and print what was linked."""
    distributions = with_dependencies(PREDICTOR)
    link(Path(sys.argv[1]), distributions.values())
    print("\n".join(f"{name}=={each.version}" for name, each in sorted(distributions.items())))


if __name__ == "__main__":
    main()
