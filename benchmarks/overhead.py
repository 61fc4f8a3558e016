"""What the service adds to a lone request: time at the client beside the stages the answer reports.

`python -m benchmarks.overhead --requests 100` starts the service with our weights in a process of its own and asks one
request after the other over one connection. Added = client's time - (decode + route + blocks + encode): transport,
parsing, queueing and hand-overs, and the client's own work. Medians and 95th percentiles in milliseconds.
"""

from __future__ import annotations

import argparse
import re
from contextlib import closing
from time import perf_counter
from urllib.parse import urlsplit

import httpx
import numpy as np

from benchmarks.machine import describe
from benchmarks.settled import until_settled
from benchmarks.wire import Caller, post
from model import checkpoint
from tests.system.e2e.process import SAMPLES, service

WORK = ("decode", "route", "blocks", "encode")


def stages(header: str) -> dict[str, float]:
    """Server-Timing -> milliseconds by stage."""
    return {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", header)}


def measure(http: Caller, request: bytes, requests: int) -> list[tuple[float, float]]:
    """Milliseconds at the client, and of the stages, of each request."""
    found = []
    for _ in range(requests):
        begun = perf_counter()
        answer = http.ask(request)
        took = 1000 * (perf_counter() - begun)
        assert answer.status == 200, answer.status
        reported = stages(answer.headers["server-timing"])
        found.append((took, sum(reported.get(name, 0.0) for name in WORK)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="of each kind")
    asked = parser.parse_args()
    print(describe())
    frames = [(SAMPLES / f"frame0{i}.png").read_bytes() for i in range(2)]
    names = ("previous", "current")
    form = httpx.Request("POST", "http://x", files=dict(zip(names, frames, strict=True)))
    body, content_type = form.read(), form.headers["content-type"]
    with service(WEIGHTS=str(checkpoint.DEFAULT), THREADS="0", WARMUP_SIZES="256x448", LOG_LEVEL="warning") as running:
        until_settled(running.process.pid)
        print(f"{'route':<8} {'client p50':>10} {'work p50':>10} {'added p50':>10} {'added p95':>10}")
        # The lightest client: httpx alone takes several milliseconds for a body of this size.
        with closing(Caller("127.0.0.1", urlsplit(running.http).port or 80)) as http:
            for route in ("auto", "full"):
                request = post(f"/v1/predict?route={route}", {"Content-Type": content_type}, body)
                measure(http, request, 5)
                pairs = np.array(measure(http, request, asked.requests))
                added = pairs[:, 0] - pairs[:, 1]
                print(
                    f"{route:<8} {np.median(pairs[:, 0]):10.2f} {np.median(pairs[:, 1]):10.2f} "
                    f"{np.median(added):10.2f} {np.percentile(added, 95):10.2f}"
                )


if __name__ == "__main__":
    main()
