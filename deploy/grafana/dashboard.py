"""Turns the table of panels into Grafana's JSON: where each stands, and what Grafana wants to be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.grafana.panels import ROWS
from deploy.grafana.query import Panel

WIDTH = 24
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 8}
SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> dict[str, Any]:
    """The whole dashboard, ready to be provisioned or imported."""
    return {
        "uid": "dmvfn",
        "title": "DMVFN",
        "description": "Made by `python -m deploy.generate` from deploy/grafana/*.py.",
        "tags": ["dmvfn"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables())},
        "annotations": {"list": [_alerts()]},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    narrowed = ""
    for name, label in (("namespace", "Namespace"), ("role", "Role"), ("instance", "Process")):
        yield {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": f'label_values(up{{job="dmvfn"{narrowed}}}, {name})', "refId": name},
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "sort": 1,
        }
        narrowed += f',{name}=~"${name}"'


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Dmvfn.*",alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "step": "60s",
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    for row in ROWS:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            "panels": [],
        }
        number, y = number + 1, y + 1
        wide = WIDTH // len(row.panels)
        for i, panel in enumerate(row.panels):
            high = HEIGHTS[panel.kind]
            yield _panel(panel, number, {"h": high, "w": wide, "x": i * wide, "y": y})
            number += 1
        y += max(HEIGHTS[panel.kind] for panel in row.panels)


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": _lines(panel)}, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": not instant,
                "instant": instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for i, query in enumerate(panel.queries)
        ],
    }


def _lines(panel: Panel) -> dict[str, Any]:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if panel.stacked else 0,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none"},
        "axisSoftMin": 0,
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    if panel.kind == "table":
        return {"showHeader": True}
    return {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
