"""Adaptive requests with deadlines of 3 to 30 ms under load: how many are in time, by what answer, how late the rest.

    python -m benchmarks.adaptive_load [--load 0.8] [--requests 3000] [--seconds 60] [--format raw]

Capacity is the steady rate at which the service answers adaptive requests in full when none is pressed for time: two
callers at once, deadlines of 10 s, and answers that are not shortened. Then requests come at chance moments (Poisson)
at `load` times that rate, whatever has been answered, each with a deadline of its own, whole milliseconds drawn evenly.
Service and client share the machine.

In time is told three times. Answered: by the service's own check, once the answer is ready. Handed over: its last byte
given to the system within the deadline, by the service's log; a client that is slow to read counts there. At the
client: the whole answer there, from the first byte sent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmarks import clips, load
from benchmarks.deadlines import kind
from benchmarks.machine import describe
from benchmarks.wire import post
from model import checkpoint
from service.core.types import Frame
from service.imaging.codec import ImageFormat, encode
from tests.system.e2e.process import Service, service

DEADLINES_MS = tuple(range(3, 31))
#: Upper ends of the classes that a table has a line for.
CLASSES_MS = (4, 8, 12, 20, 30)
#: What is read of each answer: the first names its line in the log, the rest tell what it is.
ID, KIND_HEADERS = "x-request-id", ("x-dmvfn-method", "x-dmvfn-shares", "x-dmvfn-shortened")
#: Milliseconds that a caller has whose answer is to be full.
LONG_MS = 10_000


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one request. `kind`: what answered it, or its status. Milliseconds."""

    deadline: int
    kind: str
    client: float  #: from its first byte sent to its whole answer
    service: float  #: the same at the service, by its log; infinite where the log has no line of it
    wait: float  #: from when it was due until the client could send it

    @property
    def is_answered(self) -> bool:
        """Tell whether a frame came: the service answers with none after the deadline."""
        return not self.kind.startswith("status")

    @property
    def is_handed_over(self) -> bool:
        """Tell whether all of it had left the service in time."""
        return self.is_answered and self.service <= self.deadline

    @property
    def is_in_time_at_client(self) -> bool:
        """Tell whether it was answered in time, by the client's count."""
        return self.is_answered and self.client <= self.deadline


def request(pair: NDArray[np.uint8], deadline_ms: int, format: ImageFormat) -> bytes:
    """Build a request for the frame after `pair` (2xHxWx3). Frames travel as `format`, there and back."""
    query, accept = f"/v1/predict?quality=adaptive&deadline_ms={deadline_ms}", {"Accept": format.media_type}
    if format is ImageFormat.RAW:
        shape = ",".join(map(str, pair.shape))
        return post(query, {**accept, "Content-Type": format.media_type, "X-Frame-Shape": shape}, pair.tobytes())
    boundary = "frames-of-a-pair"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode()
        + encode(Frame(pixels), format)
        for name, pixels in zip(("previous", "current"), pair, strict=True)
    ]
    body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    return post(query, {**accept, "Content-Type": f"multipart/form-data; boundary={boundary}"}, body)


def fates(shots: Iterable[load.Shot], deadlines: Sequence[int], log: Mapping[str, float]) -> list[Fate]:
    """Join what the client saw with the service's log: milliseconds by request id."""
    joined = []
    for shot in shots:
        headers = {name: value for name, value in zip((ID, *KIND_HEADERS), shot.headers, strict=True) if value}
        joined.append(
            Fate(
                deadlines[shot.kind],
                kind(shot.status, headers),
                1000 * (shot.took - shot.wait),
                log.get(headers.get(ID, ""), float("inf")),
                1000 * shot.wait,
            )
        )
    return joined


def durations(output: str) -> dict[str, float]:
    """Read the service's log: how long each prediction took, milliseconds, by request id."""
    lines = (json.loads(line) for line in output.splitlines() if line.startswith("{") and "/v1/predict" in line)
    return {line["request_id"]: line["duration_ms"] for line in lines if "duration_ms" in line}


def table(results: Sequence[Fate]) -> str:
    """Write the fates by what answered, and by the deadline."""
    by_kind, by_class = defaultdict[str, list[Fate]](list), defaultdict[int, list[Fate]](list)
    for fate in results:
        by_kind[fate.kind].append(fate)
        by_class[next(end for end in CLASSES_MS if fate.deadline <= end)].append(fate)
    kinds = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    lines = ["| | requests | answered in time | handed over | at the client |", "|---|---|---|---|---|"]
    lines += [_line(name, some) for name, some in kinds]
    starts = (DEADLINES_MS[0], *(end + 1 for end in CLASSES_MS))
    lines += [
        _line(f"{start} to {end} ms", by_class[end])
        for start, end in zip(starts, CLASSES_MS, strict=False)
        if by_class[end]
    ]
    return "\n".join([*lines, _line("**all**", results)])


def lateness(results: Sequence[Fate]) -> str:
    """Write by how much those were late that were, at the service and at the client, and what lies between the two."""
    at_service = [fate.service - fate.deadline for fate in results if not fate.is_handed_over]
    at_client = [fate.client - fate.deadline for fate in results if not fate.is_in_time_at_client]
    between = [fate.client - fate.service for fate in results if np.isfinite(fate.service)]
    waits = [fate.wait for fate in results]
    return "\n".join(
        [
            "| milliseconds | | p50 | p99 | p99.9 | most |",
            "|---|---|---|---|---|---|",
            _percentiles("late, at the service", at_service),
            _percentiles("late, at the client", at_client),
            _percentiles("a request at the client less at the service", between),
            _percentiles("sent after it was due", waits),
        ]
    )


def _line(name: str, some: Sequence[Fate]) -> str:
    def share(is_so: Callable[[Fate], bool]) -> str:
        return f"{100 * sum(map(is_so, some)) / len(some):.2f} %"

    answered, handed_over = share(lambda fate: fate.is_answered), share(lambda fate: fate.is_handed_over)
    return f"| {name} | {len(some)} | {answered} | {handed_over} | {share(lambda fate: fate.is_in_time_at_client)} |"


def _percentiles(name: str, values: Sequence[float]) -> str:
    if not values:
        return f"| {name} | 0 | | | | |"
    p50, p99, p999, most = np.percentile(values, (50, 99, 99.9, 100))
    return f"| {name} | {len(values)} | {p50:.2f} | {p99:.2f} | {p999:.2f} | {most:.2f} |"


@dataclass(frozen=True, slots=True)
class Load:
    """What to put on a service: `share` of its capacity, `requests` and `seconds` at least, and how frames travel."""

    share: float
    requests: int
    seconds: float
    measuring: float = 6.0  #: seconds for which capacity is measured
    size: tuple[int, int] = (256, 448)
    format: ImageFormat = ImageFormat.RAW
    seed: int = 7


def measure(running: Service, plan: Load) -> tuple[float, list[Fate]]:
    """Return the capacity, full answers a second, and what became of each request at a share of it."""
    port = urlsplit(running.http).port or 80
    pair = clips.pair(*plan.size)
    deadlines = (*DEADLINES_MS, LONG_MS)
    with tempfile.TemporaryDirectory() as name:
        kinds = []
        for deadline in deadlines:
            path = Path(name) / str(deadline)
            path.write_bytes(request(pair, deadline, plan.format))
            kinds.append(load.Kind(str(path), ""))
        headers = (ID, *KIND_HEADERS)
        for seconds in (plan.measuring / 3, plan.measuring):  # the first is to warm up
            steady = load.run(load.Plan(port, tuple(kinds[-1:]), connections=2, seconds=seconds, headers=headers))
        full = sum(shot.right and not shot.headers[-1] for shot in steady.shots)
        capacity = full / steady.seconds
        rate = plan.share * capacity
        due = load.poisson(rate, max(plan.seconds, plan.requests / rate), range(len(DEADLINES_MS)), plan.seed)
        pressed = load.run(load.Plan(port, tuple(kinds[:-1]), due=due, headers=headers))
    return capacity, fates(pressed.shots, deadlines, durations(running.output()))


def main() -> None:
    """Print the capacity, the table and the lateness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, default=0.8, help="share of the capacity")
    parser.add_argument("--requests", type=int, default=3000, help="at least")
    parser.add_argument("--seconds", type=float, default=60.0, help="at least")
    parser.add_argument("--size", default="256x448", help="height x width")
    parser.add_argument("--format", type=ImageFormat, default=ImageFormat.RAW, choices=list(ImageFormat))
    params = parser.parse_args()
    print(describe())
    size = clips.size(params.size)
    plan = Load(params.load, params.requests, params.seconds, size=size, format=params.format)
    with service(WEIGHTS=str(checkpoint.DEFAULT), THREADS="0", WARMUP_SIZES=params.size, LOG_LEVEL="info") as running:
        capacity, results = measure(running, plan)
    print(f"capacity {capacity:.1f} full answers a second; {params.load * capacity:.1f} requests a second")
    print(f"\n{table(results)}\n\n{lateness(results)}")


if __name__ == "__main__":
    main()
