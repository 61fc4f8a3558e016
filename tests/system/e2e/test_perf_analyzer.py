"""The real perf_analyzer binary, unmodified, drives both edges and finds statistics it can use."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.system.e2e.joined import joined
from tests.system.e2e.v2_tools import tools

#: Few requests, so that it ends soon on a busy machine; how stable the figures are is not what is tested.
SHORT = ["--measurement-mode", "count_windows", "--measurement-request-count", "20", "-s", "99999", "-r", "6"]


@pytest.mark.parametrize(
    "wire",
    [["-i", "http"], ["-i", "grpc"], ["-i", "grpc", "--streaming"]],
    ids=["http", "grpc", "streaming"],
)
async def test_it_measures_a_batch_over(wire: list[str], tmp_path: Path) -> None:
    clients = tools()
    async with joined() as service:
        address = service.grpc if "grpc" in wire else service.http.removeprefix("http://")
        report = tmp_path / "report.csv"
        await clients.run(
            clients.perf_analyzer,
            *("-m", "dmvfn", "-u", address, "-b", "2", "--shape", "FRAMES:2,48,64,3", "--concurrency-range", "2"),
            *("-f", str(report), *SHORT, *wire),
        )
        [row] = csv.DictReader(report.read_text().splitlines())
        statistics = service.parts.infer_statistics.models["dmvfn"]
    # With -s or -rP these are the figures that docs/benchmarks-history.md may quote.
    shown = ("Inferences/Second", "Avg latency", "p50 latency", "p99 latency", "Server Queue", "Server Compute Infer")
    print(" ".join(wire), {name: row[name] for name in shown if name in row})
    assert float(row["Inferences/Second"]) > 0
    assert float(row["p99 latency"]) > 0
    # In streaming it times responses only; else it splits the time by the server's own statistics.
    if "--streaming" not in wire:
        assert float(row["Server Compute Infer"]) > 0
    assert statistics.fail.count == 0
    assert statistics.inferences == 2 * statistics.success.count >= 40
