"""The dashboard's rows from top to bottom."""

from __future__ import annotations

from deploy.grafana import apart, callers, device, live_quality
from deploy.grafana.query import Row

ROWS: tuple[Row, ...] = (*callers.ROWS, *device.ROWS, *live_quality.ROWS, *apart.ROWS)
