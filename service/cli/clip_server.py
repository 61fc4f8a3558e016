"""Speaks to a server that makes clips as jobs: posts one, asks how it stands, fetches its result.

What may pass (a server that restarts or is full, a connection that breaks) is asked again; the rest is a VideoError.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from service.serving.video.clip import VideoError

#: Seconds that one answer may take, a wait for news included.
TIMEOUT_S = 120.0
#: Seconds of a wait for news.
WAIT_S = 30
#: Seconds for which a server may be away before a clip is given up.
PATIENCE_S = 600.0
#: Seconds between two tries, at least and at most.
SHORTEST_S, LONGEST_S = 0.5, 30.0
#: Statuses that say "not now".
BUSY = (429, 502, 503, 504)
PIECE = 2**20
#: Characters of a name or an address.
_HOST = re.compile(r"[\w.:%-]+")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its status, headers in lower case, and its JSON (or nothing)."""

    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]


class ClipServer:
    """One server by its URL; `key` is the API key, if it wants one. For any thread. A set `stop` ends each wait.

    `tell` is called with why an answer is waited for, when the wait begins. Raises VideoError for another address.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        stop: threading.Event | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        is_secure, self._host, self._port, self._base = _address(url)
        self._connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        self._key = {"Authorization": f"Bearer {key}"} if key else {}
        self._stop, self._tell = stop or threading.Event(), tell or (lambda text: None)

    def post(self, query: str, file: Path, headers: Mapping[str, str], name: str) -> Reply:
        """Post a clip of this name as a job; its Idempotency-Key makes a repeated one the same."""
        file_headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
            "Prefer": "respond-async",
        }

        def send(connection: http.client.HTTPConnection) -> None:
            with file.open("rb") as body:
                about = {**self._key, **headers, **file_headers, "Content-Length": str(file.stat().st_size)}
                connection.request("POST", f"{self._base}/v1/video?{query}", body, about)

        return self._answered(send)

    def get(self, path: str, *, wait: bool = False) -> Reply:
        """Ask how a clip stands; with `wait`, once that changes. A clip that is gone has status 404."""
        return self._ask("GET", f"{path}?wait={WAIT_S}" if wait else path, accept_gone=True)

    def delete(self, path: str) -> None:
        """Drop a clip."""
        self._ask("DELETE", path, accept_gone=True)

    def fetch(self, path: str, file: BinaryIO) -> None:
        """Write a result into `file`; where a connection breaks, it goes on from there."""
        self._patiently(lambda: self._fetch(path, file))

    def _fetch(self, path: str, file: BinaryIO) -> Reply:
        start = file.tell()
        connection = self._open()
        try:
            connection.request("GET", f"{self._base}{path}/result", headers={**self._key, "Range": f"bytes={start}-"})
            response = connection.getresponse()
            if response.status not in (200, 206):
                return _reply(response)
            if response.status == 200:
                file.seek(0)
                file.truncate()
            # read() returns what came before a connection broke, and then "": the length tells. A proxy may send
            # pieces without one; of those read() tells itself that the last is missing.
            length, byte_count = response.headers.get("Content-Length"), 0
            while piece := response.read(PIECE):
                file.write(piece)
                byte_count += len(piece)
            if length is not None and byte_count != int(length):
                raise http.client.IncompleteRead(b"", int(length) - byte_count)
            return Reply(200, {}, {})
        finally:
            connection.close()

    def _ask(self, method: str, path: str, *, accept_gone: bool = False) -> Reply:
        def send(connection: http.client.HTTPConnection) -> None:
            connection.request(method, self._base + path, headers=self._key)

        return self._answered(send, accept_gone=accept_gone)

    def _answered(self, send: Callable[[http.client.HTTPConnection], None], *, accept_gone: bool = False) -> Reply:
        def once() -> Reply:
            connection = self._open()
            try:
                # Who refuses a clip before all of it has come says why, and hangs up.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    send(connection)
                return _reply(connection.getresponse())
            finally:
                connection.close()

        return self._patiently(once, accept_gone=accept_gone)

    def _patiently(self, ask: Callable[[], Reply], *, accept_gone: bool = False) -> Reply:
        """Ask until there is an answer. VideoError for a refusal, or a server that stays away."""
        deadline, wait = time.monotonic() + PATIENCE_S, SHORTEST_S
        while True:
            try:
                reply = ask()
            except (OSError, http.client.HTTPException) as error:
                reason, pause, is_away = f"{self._host} does not answer: {error}", wait, True
            else:
                if reply.status < 400 or (accept_gone and reply.status == 404):
                    return reply
                reason = str(reply.document.get("detail") or reply.document.get("title") or f"status {reply.status}")
                if reply.status not in BUSY:
                    raise VideoError(reason)
                deadline = time.monotonic() + PATIENCE_S  # it lives, and is full
                is_away = False
                pause = max(wait, _seconds(reply.headers.get("retry-after", "")))
            if time.monotonic() >= deadline:
                raise VideoError(reason)
            if is_away and wait == SHORTEST_S:
                self._tell(f"{reason}; it is asked again for {PATIENCE_S / 60:.0f} minutes")
            if self._stop.wait(min(pause, LONGEST_S)):
                raise VideoError("stopped")
            wait = min(2 * wait, LONGEST_S)

    def _open(self) -> http.client.HTTPConnection:
        if self._stop.is_set():
            raise VideoError("stopped")
        return self._connect(self._host, self._port, timeout=TIMEOUT_S)


def _address(url: str) -> tuple[bool, str, int | None, str]:
    """Return whether TLS is spoken, host, port and path of an address. Raises VideoError for what is none."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
        is_known = parts.scheme in ("http", "https") and host is not None and _HOST.fullmatch(host)
    except ValueError:  # a port beyond 65535, half of an IPv6 address
        host, is_known = None, None
    if host is None or not is_known or "@" in parts.netloc or parts.query or parts.fragment:
        raise VideoError(f"--server {url}: give the service's address, like http://HOST:8000")
    return parts.scheme == "https", host, port, parts.path.rstrip("/")


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After; 0 where a proxy gives a date, or nothing."""
    return float(retry_after) if re.fullmatch("[0-9]{1,9}", retry_after) else 0.0


def _reply(response: http.client.HTTPResponse) -> Reply:
    data = response.read()
    try:
        document = json.loads(data) if data else {}
    except ValueError:
        document = {}
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, document if isinstance(document, dict) else {})
