"""Adaptive requests with deadlines of 3 to 30 ms under load: how many are in time, by what answer, how late the rest.

    python -m benchmarks.adaptive_load [--load 0.8] [--requests 3000] [--seconds 60] [--format raw] [--stalls]

Capacity is the steady rate at which the service answers adaptive requests in full when none is pressed for time: two
callers at once, deadlines of 10 s, and answers that are not shortened. Then requests come at chance moments (Poisson)
at `load` times that rate, whatever has been answered, each with a deadline of its own, whole milliseconds drawn evenly.
Service and client share the machine.

In time is told three times. Answered: by the service's own check, once the answer is ready. Handed over: its last byte
given to the system within the deadline, by the service's log; a client that is slow to read counts there. At the
client: the whole answer there, from the first byte sent.

With `--stalls` it is watched whether the machine itself stands still meanwhile, and told how many misses that explains.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmarks import clips, load, stalls
from benchmarks.deadlines import kind
from benchmarks.machine import describe
from benchmarks.settled import until_settled
from benchmarks.stalls import Stall
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
    stood_still: float = 0.0  #: of its time at the service, that of cores which stood still; 0 where nobody watched

    @property
    def is_answered(self) -> bool:
        """Tell whether a frame came: the service answers with none after the deadline."""
        return not self.kind.startswith("status")

    @property
    def is_handed_over(self) -> bool:
        """Tell whether all of it had left the service in time."""
        return self.is_answered and self.service <= self.deadline

    @property
    def is_machines_fault(self) -> bool:
        """Tell whether it was not handed over in time, and may have been but for cores that stood still."""
        return not self.is_handed_over and self.service - self.stood_still <= self.deadline

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


class Logged(NamedTuple):
    """What the service's log says of one prediction: milliseconds, and when it was over, seconds since the epoch."""

    duration: float
    end: float

    def stood_still(self, stalls_seen: Iterable[Stall]) -> float:
        """Return for how many of its milliseconds cores stood still."""
        return 1000 * stalls.seconds_within(stalls_seen, self.end - self.duration / 1000, self.end)


def fates(
    shots: Iterable[load.Shot],
    deadlines: Sequence[int],
    log: Mapping[str, Logged],
    stalls_seen: Sequence[Stall] = (),
) -> list[Fate]:
    """Join what the client saw with the service's log, by request id, and with the machine's stalls."""
    joined = []
    for shot in shots:
        headers = {name: value for name, value in zip((ID, *KIND_HEADERS), shot.headers, strict=True) if value}
        logged = log.get(headers.get(ID, ""), Logged(float("inf"), 0.0))
        joined.append(
            Fate(
                deadlines[shot.kind],
                kind(shot.status, headers),
                1000 * (shot.took - shot.wait),
                logged.duration,
                1000 * shot.wait,
                logged.stood_still(stalls_seen) if np.isfinite(logged.duration) else 0.0,
            )
        )
    return joined


def read_log(output: str) -> dict[str, Logged]:
    """Read the service's log: how long each prediction took and when it was over, by request id."""
    lines = (json.loads(line) for line in output.splitlines() if line.startswith("{") and "/v1/predict" in line)
    return {
        line["request_id"]: Logged(line["duration_ms"], datetime.fromisoformat(line["time"]).timestamp())
        for line in lines
        if "duration_ms" in line
    }


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


def explained(results: Sequence[Fate], stalls_seen: Sequence[Stall]) -> str:
    """Write how often cores stood still, and how many misses that explains."""
    lost = [fate for fate in results if not fate.is_handed_over]
    longest = max((stall.end - stall.start for stall in stalls_seen), default=0.0)
    return (
        f"cores stood still {len(stalls_seen)} times, for {1000 * longest:.1f} ms at most; of {len(lost)} requests "
        f"that were not handed over in time that explains {sum(fate.is_machines_fault for fate in lost)}"
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
    is_watched: bool = False  #: whether the machine's stalls are told


def measure(running: Service, plan: Load) -> tuple[float, list[Fate], list[Stall]]:
    """Return the capacity, full answers a second; what became of each request at a share of it; stalls meanwhile."""
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
        with stalls.watching() if plan.is_watched else contextlib.nullcontext(list[Stall]()) as stalls_seen:
            pressed = load.run(load.Plan(port, tuple(kinds[:-1]), due=due, headers=headers))
    return capacity, fates(pressed.shots, deadlines, read_log(running.output()), stalls_seen), stalls_seen


def main() -> None:
    """Print the capacity, the table and the lateness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, default=0.8, help="share of the capacity")
    parser.add_argument("--requests", type=int, default=3000, help="at least")
    parser.add_argument("--seconds", type=float, default=60.0, help="at least")
    parser.add_argument("--size", default="256x448", help="height x width")
    parser.add_argument("--format", type=ImageFormat, default=ImageFormat.RAW, choices=list(ImageFormat))
    parser.add_argument("--stalls", action="store_true", help="watch whether the machine stands still (as root)")
    params = parser.parse_args()
    print(describe())
    size = clips.size(params.size)
    plan = Load(params.load, params.requests, params.seconds, size=size, format=params.format, is_watched=params.stalls)
    with service(WEIGHTS=str(checkpoint.DEFAULT), THREADS="0", WARMUP_SIZES=params.size, LOG_LEVEL="info") as running:
        until_settled(running.process.pid)
        capacity, results, stalls_seen = measure(running, plan)
    print(f"capacity {capacity:.1f} full answers a second; {params.load * capacity:.1f} requests a second")
    print(f"\n{table(results)}\n\n{lateness(results)}")
    if params.stalls:
        print(f"\n{explained(results, stalls_seen)}")


if __name__ == "__main__":
    main()
