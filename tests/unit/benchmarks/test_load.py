"""The load generator against a server that a test can see through."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.wire import post


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if self.path == "/full" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers every body with itself, and /full with 503."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with contextlib.ExitStack() as stack:
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            yield server.server_address[1]


def kind(folder: Path, name: str, request: bytes, expected: bytes) -> load.Kind:
    """One request, in files."""
    (folder / f"{name}.request").write_bytes(request)
    (folder / f"{name}.answer").write_bytes(expected)
    return load.Kind(str(folder / f"{name}.request"), str(folder / f"{name}.answer"))


def test_an_open_loop_sends_what_is_due_and_tells_right_from_wrong(echo: int, tmp_path: Path) -> None:
    body = bytes(range(100))
    kinds = (
        kind(tmp_path, "right", post("/", {}, body), body),
        kind(tmp_path, "wrong", post("/", {}, body), body[::-1]),
        kind(tmp_path, "full", post("/full", {}, body), body),
    )
    fired = load.run(load.Plan(echo, kinds, due=((0.0, 0), (0.01, 1), (0.02, 2), (0.02, 0))))
    fates = sorted((shot.kind, shot.status, shot.right) for shot in fired.shots)
    assert fates == [(0, 200, True), (0, 200, True), (1, 200, False), (2, 503, False)]


def test_a_closed_loop_goes_on_for_its_time(echo: int, tmp_path: Path) -> None:
    one = kind(tmp_path, "one", post("/", {}, b"abc"), b"abc")
    fired = load.run(load.Plan(echo, (one,), connections=3, seconds=0.2))
    assert len(fired.shots) >= 3
    assert all(shot.right for shot in fired.shots)
    assert fired.seconds >= 0.2


def test_a_request_that_nobody_answers_counts_as_such(tmp_path: Path) -> None:
    one = kind(tmp_path, "one", post("/", {}, b""), b"")
    (shot,) = load.run(load.Plan(1, (one,), due=((0.0, 0),))).shots
    assert (shot.status, shot.right) == (0, False)


def test_rounding_is_forgiven_and_nothing_else() -> None:
    assert load.alike(b"\x01\x02", b"\x02\x01")
    assert not load.alike(b"\x01\x02", b"\x01\x04")
    assert not load.alike(b"\x01", b"\x01\x02")


def test_the_same_seed_gives_the_same_arrivals() -> None:
    due = load.poisson(200.0, 2.0, (0, 1), seed=3)
    assert due == load.poisson(200.0, 2.0, (0, 1), seed=3)
    assert 300 < len(due) < 500
    assert all(0 <= at < 2.0 for at, _ in due)
    assert {kind for _, kind in due} == {0, 1}
