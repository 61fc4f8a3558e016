"""How Redis stands in a round of chaos: as deployed, over TLS, with a clock that jumps, on a disk that loses power."""

from __future__ import annotations

import os
import runpy
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import redis

from service.settings import Settings
from tests.system.e2e.process import ROOT, free_port
from tests.unit.distributed.servers import NEVER, Server

#: Debian's place for it, in `faketime`'s own folder.
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


class Guarded(Server):
    """A server on which only the service's user may look."""

    def __init__(self, program: Path, *options: str) -> None:
        super().__init__(program, *options)
        self.user, self.password = "", ""

    def client(self) -> redis.Redis:
        """As that user."""
        return redis.Redis(unix_socket_path=str(self.socket), username=self.user, password=self.password, retry=NEVER)


def plain(program: Path, fsync: str = "always") -> Server:
    """A server with an append-only file; `always`: what was promised with a 202 is on disk."""
    return Server(program, "--appendonly", "yes", "--appendfsync", fsync)


def deployed(program: Path, fsync: str = "always") -> Guarded:
    """A server with the configuration, the ACL and the passwords that scripts/deploy-secrets and the manifests give."""
    script = runpy.run_path(str(ROOT / "scripts" / "deploy-secrets"))
    manifests = script["manifests"]("dmvfn", ("redis", 6379), Settings().redis_queue, [])
    secrets = {item["metadata"]["name"]: item["stringData"] for item in manifests}
    acl = secrets["dmvfn-redis-acl"]["users.acl"]
    server = Guarded(program)
    (server.folder / "users.acl").write_text(acl)
    conf = ROOT / "deploy" / "kubernetes" / "components" / "redis" / "redis.conf"
    lines = [line.split(" ", 1) for line in conf.read_text().splitlines() if line and not line.startswith("#")]
    words = [word for key, value in lines for word in (f"--{key}", *value.replace('"', "").split())]
    server.options = (*words, "--aclfile", str(server.folder / "users.acl"), "--appendfsync", fsync)
    service = secrets["dmvfn-secrets"]
    url = urlsplit(service["DMVFN_REDIS_URL"])
    server.user = service.get("DMVFN_REDIS_USERNAME") or url.username
    server.password = service.get("DMVFN_REDIS_PASSWORD") or url.password
    return server


def over_tls(program: Path) -> tuple[Server, str]:
    """A server with a TLS port and the URL of it; `fits` tells whether it was built with TLS."""
    server = plain(program)
    certificate, key, port = server.folder / "cert.pem", server.folder / "key.pem", free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    server.options += ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    server.options += ("--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate))
    return server, f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"


def with_a_clock(program: Path) -> Server:
    """A server whose wall clock is what `set_clock` says; its monotonic clock stays true."""
    server = plain(program)
    preload(
        server,
        LD_PRELOAD=FAKETIME,
        FAKETIME_TIMESTAMP_FILE=server.folder / "clock",
        FAKETIME_NO_CACHE=1,
        FAKETIME_DONT_FAKE_MONOTONIC=1,
        DONT_FAKE_MONOTONIC=1,
    )
    set_clock(server, 0)
    return server


def preload(server: Server, **environment: object) -> None:
    """Lets the server start with these variables, and nothing else with them."""
    wrapper = server.folder / "server"
    exports = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    wrapper.write_text(f"""#!/bin/sh\n{exports}exec '{server.program}' "$@"\n""")
    wrapper.chmod(0o700)
    server.program = wrapper


def bears_faketime(program: Path) -> bool:
    """Whether the program starts with libfaketime preloaded."""
    environment = {**os.environ, "LD_PRELOAD": str(FAKETIME), "FAKETIME": "+0"}
    try:
        subprocess.run([program, "--version"], env=environment, capture_output=True, check=True, timeout=8)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return True


def set_clock(server: Server, seconds: int) -> None:
    """Moves the server's wall clock to so many seconds from the true one."""
    temporary = server.folder / "clock.new"
    temporary.write_text(f"{seconds:+d}\n")
    temporary.replace(server.folder / "clock")


def on_a_disk(program: Path, fsync: str) -> Server:
    """A server that writes down what it synced, for `cut_power`."""
    server = plain(program, fsync)
    preload(server, LD_PRELOAD=_shim(), FSYNC_LOG=server.folder / "fsync.log")
    return server


def cut_power(server: Server) -> int:
    """Kills the server and drops what it had not synced of its append-only file; the bytes dropped."""
    server.kill()
    log = server.folder / "fsync.log"
    synced: dict[str, int] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        path, _, size = line.rpartition(" ")
        synced[path] = int(size)
    dropped = 0
    for file in (*server.folder.glob("appendonlydir/*.incr.aof"), *server.folder.glob("appendonly.aof")):
        length, durable = file.stat().st_size, synced.get(str(file), 0)
        if length > durable:
            os.truncate(file, durable)
            dropped += length - durable
    return dropped


def fits(server: Server) -> bool:
    """Whether it starts and answers; what a build lacks (TLS, say) it says by ending at once."""
    try:
        server.start()
    except AssertionError:
        server.remove()
        return False
    server.kill()
    return True


def _shim() -> Path:
    """Builds fsynced.c once for this machine's user; CalledProcessError without a C compiler."""
    library = Path(tempfile.gettempdir()) / f"fsynced-{os.getuid()}.so"
    source = Path(__file__).with_name("fsynced.c")
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        # In a folder of its own: rounds build it at the same time.
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
            built.replace(library)
    return library
