"""Prometheus' own tool, and our rules for it."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml

from tests.tools import require
from tests.unit.deploy.manifests import DEPLOY

HERE = DEPLOY / "prometheus"
RULES = sorted((HERE / "rules").glob("*.yml"))


def alerts() -> list[dict[str, Any]]:
    """Every alert there is."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def promtool(*arguments: str) -> str:
    """What it prints; AssertionError with that where it finds a fault."""
    run = subprocess.run(
        [require("promtool"), *arguments], cwd=HERE, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
