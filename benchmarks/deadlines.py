"""Lone adaptive requests with deadlines of a few milliseconds: how many are answered, and with what.

    python -m benchmarks.deadlines [--requests 60] [--rest 0.02]

Starts the service with our weights in a process of its own and asks one request of raw 256x448 frames after the other,
`rest` seconds apart, as no stream does. A deadline counts from the request's first byte at the service to the answer's
first; the client's median and 99th percentile, in milliseconds, have both transfers in them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import urlsplit

import numpy as np

from benchmarks import clips
from benchmarks.machine import describe
from benchmarks.settled import until_settled
from benchmarks.wire import Caller, post
from model import checkpoint
from service.core.substitute import BEFORE, PANNED, REPEATED
from tests.system.e2e.process import service

DEADLINES_MS = (3, 5, 10, 20, 30)


def kind(status: int, headers: Mapping[str, str]) -> str:
    """Name what was answered: a substitute, or the method that was asked for; the status of an error."""
    if status != 200:
        return f"status {status}"
    shares = headers.get("x-dmvfn-shares", "")
    alone = next((name for name in (PANNED, REPEATED, BEFORE) if shares.startswith(f"{name}=")), None)
    if alone is None and headers.get("x-dmvfn-shortened"):
        return "live head or fewer blocks"
    return alone or headers["x-dmvfn-method"]


def measure(
    http: Caller, frames: np.ndarray, deadline_ms: int, requests: int, rest: float
) -> tuple[Counter[str], list[float]]:
    """Ask so many times; return what was answered, and the milliseconds of each answer at the client."""
    shape = ",".join(map(str, frames.shape))
    headers = {"Content-Type": "application/octet-stream", "X-Frame-Shape": shape, "Accept": "application/octet-stream"}
    request = post(f"/v1/predict?quality=adaptive&deadline_ms={deadline_ms}", headers, frames.tobytes())
    kinds, milliseconds = Counter[str](), list[float]()
    for _ in range(requests):
        start = time.perf_counter()
        reply = http.ask(request)
        milliseconds.append(1000 * (time.perf_counter() - start))
        kinds[kind(reply.status, reply.headers)] += 1
        time.sleep(rest)
    return kinds, milliseconds


def main() -> None:
    """Print a line for each deadline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60, help="of each deadline")
    parser.add_argument("--rest", type=float, default=0.02, help="seconds between two")
    params = parser.parse_args()
    print(describe())
    frames = clips.pair(256, 448)
    with (
        service(WEIGHTS=str(checkpoint.DEFAULT), THREADS="0", WARMUP_SIZES="256x448", LOG_LEVEL="warning") as running,
        closing(Caller("127.0.0.1", urlsplit(running.http).port or 80)) as http,
    ):
        until_settled(running.process.pid)
        measure(http, frames, 1000, 10, 0.0)
        print("deadline  in time  p50 ms  p99 ms  answered with")
        for deadline_ms in DEADLINES_MS:
            kinds, milliseconds = measure(http, frames, deadline_ms, params.requests, params.rest)
            answered = sum(count for name, count in kinds.items() if not name.startswith("status"))
            outcomes = ", ".join(f"{name} {count}" for name, count in kinds.most_common())
            print(
                f"{deadline_ms:5} ms  {answered:3}/{params.requests:<3}  {np.median(milliseconds):6.1f}"
                f"  {np.percentile(milliseconds, 99):6.1f}  {outcomes}"
            )


if __name__ == "__main__":
    main()
