"""The adaptive load: what becomes of requests, joined from both sides, and told by kind, deadline and lateness."""

from __future__ import annotations

import json
import time
from contextlib import closing
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from benchmarks import adaptive_load, stalls
from benchmarks.adaptive_load import Fate, Logged
from benchmarks.load import Shot
from benchmarks.stalls import Stall
from benchmarks.wire import Caller
from service.imaging.codec import ImageFormat
from tests.unit.client.serving import serving

FLOW, PANNED = ("flow", "projected=1.000", ""), ("flow", "panned=1.000", "1")


def test_the_client_and_the_services_log_make_one_fate() -> None:
    moment = "1970-01-01T00:01:40.500Z"
    line = {"time": moment, "message": "POST /v1/predict 200", "request_id": "a", "duration_ms": 7.5}
    log = adaptive_load.read_log(f"text\n{json.dumps(line)}\n{json.dumps({**line, 'message': 'GET /healthz 200'})}\n")
    assert log == {"a": (7.5, 100.5)}
    shots = [
        Shot(0, 0.0, 0.0095, 200, True, 0.001, ("a", *FLOW)),
        Shot(1, 0.0, 0.02, 504, False, 0.0, ("b", "", "", "")),
        Shot(1, 0.0, 30.0, 0, False, headers=("", "", "", "")),
    ]
    first, refused, lost = adaptive_load.fates(shots, (8, 9), log)
    assert (first.deadline, first.kind, first.client, first.service, first.wait) == (8, "flow", 8.5, 7.5, 1.0)
    assert [first.is_answered, first.is_handed_over, first.is_in_time_at_client] == [True, True, False]
    assert [(fate.kind, fate.service, fate.is_answered) for fate in (refused, lost)] == [
        ("status 504", float("inf"), False),
        ("status 0", float("inf"), False),
    ]


def test_shares_are_told_by_kind_and_by_deadline() -> None:
    results = [
        Fate(3, "panned", 2.5, 2.0, 0.0),
        Fate(30, "flow", 31.0, 29.0, 0.1),
        Fate(30, "flow", 28.0, 27.0, 0.1),
        Fate(5, "status 504", 6.0, 5.5, 0.0),
        Fate(4, "panned", 4.5, 4.25, 0.0),
    ]
    assert adaptive_load.table(results).splitlines()[2:] == [
        "| panned | 2 | 100.00 % | 50.00 % | 50.00 % |",
        "| flow | 2 | 100.00 % | 100.00 % | 50.00 % |",
        "| status 504 | 1 | 0.00 % | 0.00 % | 0.00 % |",
        "| 3 to 4 ms | 2 | 100.00 % | 50.00 % | 50.00 % |",
        "| 5 to 8 ms | 1 | 0.00 % | 0.00 % | 0.00 % |",
        "| 21 to 30 ms | 2 | 100.00 % | 100.00 % | 50.00 % |",
        "| **all** | 5 | 80.00 % | 60.00 % | 40.00 % |",
    ]
    service, client, between, wait = adaptive_load.lateness(results).splitlines()[2:]
    assert service == "| late, at the service | 2 | 0.38 | 0.50 | 0.50 | 0.50 |"
    assert client.startswith("| late, at the client | 3 | 1.00 |")
    assert between.endswith("| 2.00 |")
    assert wait.endswith("| 0.10 |")
    assert adaptive_load.lateness(results[:1]).splitlines()[2] == "| late, at the service | 0 | | | | |"


def test_a_miss_is_the_machines_fault_where_it_stood_still_for_as_long() -> None:
    """At the service from 100.000 to 100.010, of which 3.5 ms of a core; the one of 6 ms was late by 4."""
    stalls_seen = [Stall(99.0, 100.0015), Stall(100.008, 200.0)]
    shots = [Shot(kind, 0.0, 0.011, 200, True, 0.0, (name, *FLOW)) for kind, name in enumerate("abc")]
    log = {name: Logged(10.0, 100.01) for name in "abc"}
    results = adaptive_load.fates(shots, (6, 7, 12), log, stalls_seen)
    assert [fate.stood_still for fate in results] == pytest.approx([3.5] * 3)
    assert [fate.is_machines_fault for fate in results] == [False, True, False]
    told = adaptive_load.explained(results, stalls_seen[:1])
    assert told.startswith("cores stood still 1 times, for 1001.5 ms at most; of 2 requests")
    assert told.endswith("explains 1")
    lost = adaptive_load.fates(shots[:1], (6, 7, 12), {}, stalls_seen)
    assert not lost[0].is_machines_fault


def test_a_sleep_that_ends_late_is_a_stall() -> None:
    moments = iter([10.0, 10.0012, 10.0024, 10.0134, 10.0146])
    looks = iter([True] * 4 + [False])
    (stall,) = stalls.watch(lambda: next(moments), lambda seconds: None, lambda: next(looks))
    assert (stall.start, stall.end) == pytest.approx((10.0034, 10.0134))


def test_cores_are_watched_where_that_is_allowed() -> None:
    try:
        with stalls.watching() as stalls_seen:
            start = time.time()
    except PermissionError:
        pytest.skip("no right to real-time priority here")
    assert all(start - 60 < stall.start < stall.end for stall in stalls_seen)


def test_what_is_asked_is_what_the_service_takes() -> None:
    pair = np.stack([np.asarray(Image.new("RGB", (48, 32), color)) for color in ("red", "teal")])
    with serving() as running, closing(Caller("127.0.0.1", urlsplit(running.url).port or 80)) as http:
        for format in (ImageFormat.RAW, ImageFormat.PNG, ImageFormat.JPEG):
            reply = http.ask(adaptive_load.request(pair, 20_000, format))
            assert (reply.status, reply.headers["content-type"]) == (200, format.media_type)
            assert set(adaptive_load.KIND_HEADERS[:1]) | {adaptive_load.ID} <= set(reply.headers)
