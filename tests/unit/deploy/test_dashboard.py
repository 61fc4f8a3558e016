"""The dashboard: sound as JSON, and every query answered by a real Prometheus that scrapes the real service."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tests.system.e2e.process import ROOT
from tests.unit.deploy.live import Live, live
from tests.unit.deploy.manifests import DEPLOY
from tests.unit.deploy.traffic import once

DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "dmvfn.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
#: Those that `plot_dashboard` draws.
DRAWN = [panel for panel in PANELS if panel["type"] in ("timeseries", "stat")]
#: What Grafana puts in for its variables here.
CHOSEN = {"$__rate_interval": "30s", "$namespace": ".*", "$role": ".*", "$instance": ".*"}
#: How long traffic may be repeated until every graph has a line, seconds.
PATIENCE = 300.0


def _filled(expr: str) -> str:
    for name, value in CHOSEN.items():
        expr = expr.replace(name, value)
    return expr


def _expressions() -> dict[str, str]:
    """Where it stands -> expression, of panels and of recording rules."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "recording.yml").read_text())
    found = {rule["record"]: rule["record"] for group in rules["groups"] for rule in group["rules"]}
    for panel in PANELS:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = _filled(target["expr"])
    return found


def _has_data(samples: list[dict[str, Any]]) -> bool:
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


def test_the_picture_in_the_documents_shows_the_panels_of_today() -> None:
    with Image.open(ROOT / "docs" / "dashboard.png") as picture:
        assert isinstance(picture, PngImageFile)
        titles = json.loads(picture.text["Panels"])
    assert titles == [panel["title"] for panel in DRAWN], "draw it anew: tests/unit/deploy/plot_dashboard.py"


def test_the_picture_can_be_drawn() -> None:
    from tests.unit.deploy import plot_dashboard  # it takes the panels from here

    silent: Any = SimpleNamespace(query_range=lambda *_: [])
    plot_dashboard.plot(silent, 0.0, 1.0).canvas.draw()


def test_panels_have_unique_numbers_and_do_not_overlap() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_every_panel_is_explained_and_every_variable_is_defined() -> None:
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        assert len(panel["description"]) > 10
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= defined
            assert target["datasource"]["uid"] == "${source}"


@pytest.fixture(scope="module")
def running() -> Iterator[Live]:
    with live() as found:
        yield found


def test_every_query_returns_data_from_the_running_service(running: Live) -> None:
    """Panels and recording rules; traffic goes on until all of them have a line."""
    wanted, end = _expressions(), time.monotonic() + PATIENCE
    while wanted and time.monotonic() < end:
        asyncio.run(once(running))
        wanted = {name: expr for name, expr in wanted.items() if not _has_data(running.query(expr))}
    assert wanted == {}


def test_every_metric_an_alert_names_is_one_the_service_shows(running: Live) -> None:
    """A misspelt name never fires."""
    text = (DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text() + (
        DEPLOY / "prometheus" / "rules" / "recording.yml"
    ).read_text()
    named = set(re.findall(r"\bdmvfn_\w+", text))
    shown = {str(sample["metric"]["__name__"]) for sample in running.query('{__name__=~"dmvfn_.+"}')}
    assert len(named) > 15
    assert named - shown == set()


def test_servers_and_workers_say_that_they_are_ready(running: Live) -> None:
    """Else DmvfnNotReady would ring for ever."""
    ready = {sample["metric"]["instance"]: sample["value"][1] for sample in running.query("dmvfn_ready")}
    processes = (running.alone, running.front, running.worker)
    assert ready == {process.http.removeprefix("http://"): "1" for process in processes}


def test_the_adapters_and_kedas_metrics_exist(running: Live) -> None:
    """What scales the pods."""
    adapter = yaml.safe_load((DEPLOY / "prometheus" / "adapter.yml").read_text())
    name = adapter["rules"][0]["name"]["as"]
    assert running.query(name) != []
    keda = (DEPLOY / "kubernetes" / "components" / "keda" / "scaledobject.yaml").read_text()
    query = re.search(r"query: (.+)", keda)
    assert query is not None
    # There is no namespace outside a cluster.
    assert _has_data(running.query(query[1].replace(',namespace="NAMESPACE"', "")))
