"""Run six stock clients of the Open Inference Protocol against a started service: python -m tests.system.clients.

Prints what came of each call, and writes it into docs/clients.md. Exit 1 where a call was not right.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from tests.system.clients.attempts import MARK
from tests.system.clients.report import REPORT, Row, table
from tests.system.e2e.process import ROOT, Service, service
from tests.unit.rpc.small import picture

#: A client, the folder of its virtual environment below that of `scripts/clients`, and the module that tries its calls.
SESSIONS = (
    ("tritonclient", "venv", "tritonclient_calls"),
    ("KServe", "kserve", "kserve_calls"),
    ("PyTriton", "pytriton", "pytriton_calls"),
    ("MLServer's codecs", "mlserver", "mlserver_calls"),
    ("open-inference-openapi", "venv", "open_inference_calls"),
)
#: How perf_analyzer is run; each with few requests: how steady its figures are is not what is tried.
LOADS = (
    ("HTTP, two at once", ("-i", "http", "--concurrency-range", "2")),
    ("HTTP, asynchronous, 20 a second", ("-i", "http", "--async", "--request-rate-range", "20")),
    ("gRPC, two at once", ("-i", "grpc", "--concurrency-range", "2")),
    ("gRPC, asynchronous, 20 a second", ("-i", "grpc", "--async", "--request-rate-range", "20")),
    ("gRPC, streaming", ("-i", "grpc", "--streaming", "--concurrency-range", "2")),
)
SHORT = ("--measurement-mode", "count_windows", "--measurement-request-count", "20", "-s", "99999", "-r", "6")
#: Seconds that a session may take on a busy machine.
PATIENCE = 600


def prepare(running: Service, folder: Path) -> None:
    """Write a pair, its files, and what the service predicts from it into `folder`."""
    pair = np.stack([picture(0, 48, 64), picture(1, 48, 64)])
    headers = {
        "Content-Type": "application/octet-stream",
        "X-Frame-Shape": ",".join(map(str, pair.shape)),
        "Accept": "application/octet-stream",
    }
    answer = httpx.post(f"{running.http}/v1/predict?blocks=3", content=pair.tobytes(), headers=headers, timeout=60)
    np.save(folder / "frames.npy", pair[None])
    np.save(folder / "pred.npy", np.frombuffer(answer.raise_for_status().content, np.uint8))
    for k in range(2):
        Image.fromarray(pair[k]).save(folder / f"{k}.png")


def session(name: str, python: Path, module: str, running: Service, folder: Path) -> list[Row]:
    """Run one client's calls. A session that dies is a row of its own."""
    addresses = (running.http.removeprefix("http://"), running.grpc)
    done = subprocess.run(
        [python, "-m", f"tests.system.clients.{module}", *addresses, folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    lines = [json.loads(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]
    rows = [Row(name, line["version"], line["call"], line["right"], line["result"]) for line in lines]
    if done.returncode:
        rows.append(Row(name, "", "its session", False, f"ended with {done.returncode}: {done.stderr[-300:]}"))
    return rows


def perf_analyzer(tools: Path, running: Service, folder: Path) -> list[Row]:
    """Run the load generator in every way that it has for us."""
    binary, environment = tools / "perf_analyzer", {**os.environ, "LD_LIBRARY_PATH": str(tools / "lib")}
    shown = subprocess.run([binary, "--version"], env=environment, capture_output=True, text=True)
    version = next((word.rstrip(",") for word in shown.stdout.split() if word[:1].isdigit()), "")
    rows = []
    for call, how in LOADS:
        address = running.grpc if "grpc" in how else running.http.removeprefix("http://")
        file = folder / "perf.csv"
        command = [binary, "-m", "dmvfn", "-u", address, "--shape", "FRAMES:2,48,64,3", "-f", file, *SHORT, *how]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        rate = 0.0
        if done.returncode == 0:
            [measured] = csv.DictReader(file.read_text().splitlines())
            rate = float(measured["Inferences/Second"])
        result = "measures a rate" if rate else " ".join((done.stdout + done.stderr)[-300:].split())
        rows.append(Row("perf_analyzer", version, call, bool(rate), result))
    return rows


def main() -> int:
    """Fetch the clients, run them, print and write the table."""
    fetched = subprocess.run(
        [ROOT / "scripts" / "clients", "kserve", "pytriton", "mlserver"],
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    tools = Path(fetched.stdout.split()[-1])
    rows: list[Row] = []
    with service() as running, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(running, folder)
        for client, environment, module in SESSIONS:
            rows += session(client, tools / environment / "bin" / "python", module, running, folder)
        rows += perf_analyzer(tools, running, folder)
    text = table(rows)
    print(text)
    REPORT.write_text(text)
    wrong = [row for row in rows if not row.right]
    print(f"{len(rows)} calls, {len(wrong)} not right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
