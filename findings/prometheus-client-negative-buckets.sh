#!/usr/bin/env bash
# prometheus-client 0.26.0: its OpenMetrics parser refuses what its OpenMetrics exposition writes for a histogram that has
# a bucket below zero.
#
# A histogram of how early or late something was, with the buckets -0.1, 0 and 0.1, is observed once and written by
# generate_latest of prometheus_client.openmetrics.exposition; the text is read by text_string_to_metric_families of
# prometheus_client.openmetrics.parser. The same with buckets from 0 on.
#
# Output seen (CPython 3.11.7):
#     prometheus-client 0.26.0
#     buckets [-0.1, 0.0, 0.1]: series late_seconds_bucket, late_seconds_count, late_seconds_created
#     read back: ValueError: _sum/_gsum must be present if _count is present: late_seconds
#     buckets [0.0, 0.1]: series late_seconds_bucket, late_seconds_count, late_seconds_created, late_seconds_sum
#     read back: 1 family
#
# Why it surprises: writer and strict reader are one package, and each follows a rule of its own. OpenMetrics 1.0 forbids the
# sum where there are buckets below zero, and does not say that a count needs one. Who checks a service's metrics with that
# reader, as tests do, is told of a fault that no scraper meets; and who plots sum over count, as dashboards do, silently
# gets nothing. That the sum is left out is known (client_python issue 552), as is the gap in the specification
# (prometheus/OpenMetrics issue 229); that the package refuses its own text was found nowhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check prometheus-client==0.26.0
cat >"$work/find.py" <<'PY'
import importlib.metadata
import sys

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics import exposition, parser

print("prometheus-client", importlib.metadata.version("prometheus-client"))
seen = {}
for buckets in ([-0.1, 0.0, 0.1], [0.0, 0.1]):
    registry = CollectorRegistry()
    Histogram("late_seconds", "How late.", buckets=buckets, registry=registry).observe(0.05)
    text = exposition.generate_latest(registry).decode()
    names = sorted({line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")})
    print(f"buckets {buckets}: series {', '.join(names)}")
    try:
        outcome = f"{len(list(parser.text_string_to_metric_families(text)))} family"
    except ValueError as error:
        outcome = f"ValueError: {error}"
    print("read back:", outcome)
    seen[buckets[0]] = ("late_seconds_sum" in names, outcome)
if seen[0.0] != (True, "1 family"):
    sys.exit("buckets from zero on are not read back")
if seen[-0.1][0] or "must be present" not in seen[-0.1][1]:
    sys.exit("buckets below zero are written or read otherwise now: this find is out of date")
PY
"$work/venv/bin/python" "$work/find.py"
