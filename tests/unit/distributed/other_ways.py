"""A Cluster of one node and a Sentinel of one primary: what is not one server behind a plain URL."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.unit.distributed.servers import NEVER, Server, running


def free_port() -> int:
    """A port whose partner 10000 above is free as well: a Cluster's bus is there."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 10_000))
                return port


@contextlib.contextmanager
def cluster(program: Path, *options: str) -> Iterator[tuple[Server, int]]:
    """One node that has all slots, and its port."""
    port = free_port()
    cluster_options = ("--port", str(port), "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    with running(program, *cluster_options, *options) as server:
        admin: Any = server.client()
        admin.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        _until(lambda: b"cluster_state:ok" in _raw(admin.execute_command("CLUSTER", "INFO")))
        admin.close()
        yield server, port


def _raw(answer: object) -> bytes:
    if isinstance(answer, dict):
        return "\n".join(f"{k}:{v}" for k, v in answer.items()).encode()
    return answer if isinstance(answer, bytes) else str(answer).encode()


@contextlib.contextmanager
def sentinel(program: Path, primary: int, folder: Path, *lines: str, **options: Any) -> Iterator[str]:
    """One Sentinel that watches the primary `dmvfn` at a port; its address. `options`: for a client to look at it."""
    port = free_port()
    config = folder / "sentinel.conf"
    listens = [f"tls-port {port}", "port 0"] if options.get("ssl") else [f"port {port}"]
    config.write_text("\n".join([*listens, f"sentinel monitor dmvfn 127.0.0.1 {primary} 1", *lines, ""]))
    process = subprocess.Popen([str(program), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    client: Any = redis.Redis(port=port, retry=NEVER, **options)
    try:
        _until(lambda: _answers(client))
        yield f"127.0.0.1:{port}"
    finally:
        client.close()
        process.kill()
        process.wait()


def _answers(client: Any) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "dmvfn"))
    return False


def _until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)
