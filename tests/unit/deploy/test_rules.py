"""Prometheus' own checks of our rules and configuration, and that each alert is tested and explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.deploy.manifests import ROOT
from tests.unit.deploy.promtool import HERE, RULES, alerts, promtool

TESTS = sorted((HERE / "tests").glob("*.yml"))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_accepts_the_rules(path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", str(path))


def test_prometheus_accepts_the_configuration() -> None:
    assert "2 rule files found" in promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_and_stay_silent_as_they_should(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(path))


def test_every_alert_is_seen_firing_in_a_test() -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert {alert["alert"] for alert in alerts()} == fired


def test_every_alert_says_what_how_bad_and_where_to_read_on() -> None:
    headings = set(re.findall(r"^## (Dmvfn\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE))
    names = set()
    for alert in alerts():
        name = alert["alert"]
        names.add(name)
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert "$value" in alert["annotations"]["summary"] or "$labels" in alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    assert names == headings
