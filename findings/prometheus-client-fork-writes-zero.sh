#!/usr/bin/env bash
# prometheus-client 0.26.0: in multiprocess mode a gauge that was set before the workers were forked is 0 in each of them.
#
# A program sets gauges to 5, forks one worker, and the worker counts one request, touching no gauge. Then the files are
# collected. This is done for a gauge of each mode, without a label and with one, and once more with a worker that ends
# without counting anything.
#
# Output seen (CPython 3.11.7):
#     prometheus-client 0.26.0
#     mode        worker counts a request      worker does nothing
#     min         0.0, labelled 0.0            5.0, labelled 5.0
#     max         5.0, labelled 5.0            5.0, labelled 5.0
#     sum         5.0, labelled 5.0            5.0, labelled 5.0
#     mostrecent  5.0, labelled 5.0            5.0, labelled 5.0
#     all         0.0 5.0, labelled 0.0 5.0    5.0, labelled 5.0
#
# Why it surprises: nobody ever set the gauge to 0. A program that forks its workers after loading (a preloaded app) sets
# what is true for all before that: when it started, its version, a limit. The first metric that a worker touches makes
# it open a file of its own, and every value that it knows is written there as 0, of gauges that it never touched too: the
# minimum is 0 from the first request on, and "all" has a series of 0 for each worker. With max, the same is hidden until a
# value is negative. Before the first request all is well, so that a check at the start passes.
# Couchers-org/couchers pull request 8855 met it as a start time of 0; no report about the library was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check prometheus-client==0.26.0
cat >"$work/find.py" <<'PY'
import importlib.metadata
import os
import pathlib
import subprocess
import sys

MODES = ("min", "max", "sum", "mostrecent", "all")
PROGRAM = """
import os, sys
from prometheus_client import Counter, Gauge
requests = Counter("requests", "Requests.")
for mode in sys.argv[2:]:
    Gauge("plain_" + mode, "Without a label.", multiprocess_mode=mode).set(5)
    Gauge("labelled_" + mode, "With a label.", ["part"], multiprocess_mode=mode).labels("whole").set(5)
worker = os.fork()
if worker == 0:
    if sys.argv[1] == "counts":
        requests.inc()
    os._exit(0)
os.waitpid(worker, 0)
"""
COLLECT = """
from prometheus_client import CollectorRegistry, multiprocess
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
for family in registry.collect():
    for sample in family.samples:
        print(sample.name, sample.value)
"""


def collected(worker):
    """Return the sorted values of each series' name, after a worker that counts a request or does nothing."""
    folder = pathlib.Path(__file__).parent / worker
    folder.mkdir()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", PROGRAM, worker, *MODES], check=True, env=environment)
    text = subprocess.run([sys.executable, "-c", COLLECT], check=True, env=environment, capture_output=True, text=True)
    values = {}
    for name, value in map(str.split, text.stdout.splitlines()):
        values.setdefault(name, []).append(float(value))
    return {name: sorted(series) for name, series in values.items()}


print("prometheus-client", importlib.metadata.version("prometheus-client"))
print("mode        worker counts a request      worker does nothing")
counts, nothing = collected("counts"), collected("nothing")
for mode in MODES:
    cells = []
    for values in counts, nothing:
        plain, labelled = (" ".join(map(str, values[f"{kind}_{mode}"])) for kind in ("plain", "labelled"))
        cells.append(f"{plain}, labelled {labelled}")
    print(f"{mode:11} {cells[0]:28} {cells[1]}")
assert counts["requests_total"] == [1.0]
zeros = {name for name, series in counts.items() if 0.0 in series}
if zeros != {f"{kind}_{mode}" for kind in ("plain", "labelled") for mode in ("min", "all")}:
    sys.exit("the behaviour changed")
if any(series != [5.0] for name, series in nothing.items() if name != "requests_total"):
    sys.exit("a worker that does nothing changes values, too")
PY
"$work/venv/bin/python" "$work/find.py"
