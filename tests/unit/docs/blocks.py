"""The fenced code blocks of a Markdown file, and running one as a reader would: copied into a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.system.e2e.process import ROOT

_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
#: What a reader can run.
RUNNABLE = ("sh", "bash", "python")


@dataclass(frozen=True, slots=True)
class Block:
    """One block; `line` is where its code begins, from 1."""

    file: str
    line: int
    language: str
    code: str

    @property
    def first(self) -> str:
        """Its first line, by which exceptions name it."""
        return self.code.splitlines()[0]


def blocks(path: Path) -> list[Block]:
    """All fenced blocks, in order."""
    text = path.read_text()
    name = str(path.relative_to(ROOT))
    return [
        Block(name, text[: match.start("code")].count("\n") + 1, match["language"], match["code"])
        for match in _FENCE.finditer(text)
    ]


def run(block: Block, folder: Path, http: str, grpc: str, environment: dict[str, str]) -> str:
    """What it printed; AssertionError with all of it where it failed. Addresses become those of the running service."""
    code = block.code.replace("localhost:8000", http).replace("localhost:8001", grpc)
    code = code.replace(".venv/bin/python", sys.executable)
    # A curl that gets an error answers 0 by itself; readers would see the problem document, tests must too.
    command = ["bash", "-euo", "pipefail", "-c", code] if block.language != "python" else [sys.executable, "-c", code]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "client")))
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert ran.returncode == 0, f"{block.file}:{block.line}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout
