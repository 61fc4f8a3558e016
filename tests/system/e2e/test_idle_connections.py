"""Connections on which nothing is asked lock nobody out."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from tests.system.e2e.process import service

#: Open files a process may have unless it asks for more.
SOFT = 256


@contextlib.contextmanager
def few_files() -> Iterator[None]:
    """Processes that start meanwhile may have SOFT open files unless they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_idle_connections_than_a_process_usually_has_files_lock_nobody_out() -> None:
    with contextlib.ExitStack() as stack:
        with few_files():
            running = stack.enter_context(service(wait=True))
        url = urlsplit(running.http)
        for _ in range(SOFT + 50):
            stack.enter_context(socket.create_connection((url.hostname, url.port or 80), timeout=60))
        assert httpx.get(f"{running.http}/healthz/ready", timeout=60).status_code == 200
        assert "out of system resource" not in running.output()
