"""What proxies make of a server's answers: pieces without a length, dates in place of seconds; and wrong addresses."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.cli import clip_server
from service.cli.clip_server import ClipServer
from service.serving.video.clip import VideoError

CONTENT = bytes(range(256)) * 40


class _Proxy(BaseHTTPRequestHandler):
    """Sends a result in pieces, as proxies that compress or filter do; of its first answer only the beginning."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append(self.headers.get("Range"))
        if len(server.requests) == 1 and server.is_busy:
            self.send_response(503)
            self.send_header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(CONTENT), 1000):
            piece = CONTENT[start : start + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def _proxy(*, is_busy: bool) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as server:
        server.requests, server.is_busy = [], is_busy  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(60)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_result_comes_through_a_proxy(is_busy: bool) -> None:
    """One without a length was fetched again and again for ten minutes; a date was a traceback."""
    stop, file = threading.Event(), io.BytesIO()
    with _proxy(is_busy=is_busy) as server:
        requests: list[str] = server.requests  # type: ignore[attr-defined]
        watch = threading.Timer(60.0, stop.set)
        watch.start()
        try:
            ClipServer(f"127.0.0.1:{server.server_port}", None, stop=stop).fetch("/v1/video/a", file)
        except VideoError as error:
            pytest.fail(f"{error} after {len(requests)} requests")
        finally:
            watch.cancel()
    assert file.getvalue() == CONTENT
    assert requests == ["bytes=0-"] * (1 + is_busy)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:99999", "http://127.0.0.1:port", "http://[::1", "http://a b:8000", "ftp://host", "http://"),
        *("http://ann:secret@host:8000", "http://host:8000/?key=1", "host:8000#part", "http://:8000"),
    ],
)
def test_what_is_no_address_is_told_before_anything_is_sent(url: str) -> None:
    """A port out of range was a traceback, a blank in a name ten minutes of silence, a password simply left out."""
    with pytest.raises(VideoError, match="give the service's address, like http://HOST:8000"):
        ClipServer(url, None)


@pytest.mark.parametrize("url", ["localhost:8000", "http://[::1]:8000/", "HTTPS://gpu_1.example/behind/a/proxy", "h"])
def test_addresses_of_all_kinds_are_taken(url: str) -> None:
    ClipServer(url, None)


def test_a_server_that_does_not_answer_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had mistyped a port waited for ten minutes without a word."""
    monkeypatch.setattr(clip_server, "SHORTEST_S", 0.01)
    monkeypatch.setattr(clip_server, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    texts: list[str] = []
    with pytest.raises(VideoError, match=r"127\.0\.0\.1 does not answer"):
        ClipServer(f"127.0.0.1:{port}", None, tell=texts.append).get("/v1/video/a")
    assert len(texts) == 1, "once, not at each try"
    assert "does not answer" in texts[0]
