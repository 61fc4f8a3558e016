"""What a panel is, and the PromQL that most of them are made of.

`$namespace`, `$role` and `$instance` are chosen by the reader; `$__rate_interval` is Grafana's.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Outside Kubernetes no series has a namespace; "All" matches those too.
INSTALL = 'namespace=~"$namespace"'
ONE = f'job="dmvfn",{INSTALL},role=~"$role",instance=~"$instance"'
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its lines are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: `unit` as Grafana names it, `text` what a person on call should read from it."""

    title: str
    unit: str
    text: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", more: str = "") -> str:
    """Per second, summed over processes, kept apart by the labels in `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{ONE}{more}}}[{RATE}]))"


def quantiles(metric: str, *which: float) -> tuple[Query, ...]:
    """Quantiles of a histogram over all processes."""
    return tuple(Query(f"histogram_quantile({q}, {rate(metric + '_bucket', 'le')})", f"p{q * 100:g}") for q in which)
