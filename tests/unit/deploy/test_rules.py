"""Prometheus' own checks of our rules and configuration, and that each alert is tested and explained."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import require
from tests.unit.deploy.manifests import DEPLOY, ROOT

HERE = DEPLOY / "prometheus"
RULES = sorted((HERE / "rules").glob("*.yml"))
TESTS = sorted((HERE / "tests").glob("*.yml"))


def _alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def _promtool(*arguments: str) -> str:
    run = subprocess.run(
        [require("promtool"), *arguments], cwd=HERE, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_accepts_the_rules(path: Path) -> None:
    assert "SUCCESS" in _promtool("check", "rules", str(path))


def test_prometheus_accepts_the_configuration() -> None:
    assert "2 rule files found" in _promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_and_stay_silent_as_they_should(path: Path) -> None:
    assert "SUCCESS" in _promtool("test", "rules", str(path))


def test_every_alert_is_seen_firing_in_a_test() -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert {alert["alert"] for alert in _alerts()} == fired


def test_every_alert_says_what_how_bad_and_where_to_read_on() -> None:
    headings = set(re.findall(r"^## (Dmvfn\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE))
    names = set()
    for alert in _alerts():
        name = alert["alert"]
        names.add(name)
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert "$value" in alert["annotations"]["summary"] or "$labels" in alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert names == headings
