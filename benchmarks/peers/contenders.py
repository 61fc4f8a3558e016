"""How each server is started, asked and stopped; ours among them. One core each, in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cores
from benchmarks.bare import Picture
from benchmarks.peers import triton_messages
from benchmarks.peers.handler import Tuned, pack
from benchmarks.wire import post

ROOT = Path(__file__).parent.parent.parent
PEERS = ROOT / ".cache" / "peers"
RAW = "application/octet-stream"
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: its command after the interpreter, the request for a pair (deadline in seconds), its answer's body.

    `package`: what scripts/bench-peers calls its virtual environment, where that is not its name.
    """

    name: str
    command: Callable[[Tuned], list[str]]
    request: Callable[[Picture, float], bytes]
    answer: Callable[[Picture], bytes] = Picture.tobytes
    package: str = ""

    @property
    def python(self) -> Path:
        """The interpreter of its virtual environment; `scripts/bench-peers` makes these."""
        return Path(sys.executable) if self.name == OURS else PEERS / (self.package or self.name) / "bin" / "python"


def _ours(pair: Picture, deadline: float) -> bytes:
    _, height, width, _ = pair.shape
    headers = {
        "Content-Type": RAW,
        "Accept": RAW,
        "X-Frame-Shape": f"2,{height},{width},3",
        "X-Request-Timeout-Ms": str(max(1, int(1000 * deadline))),
    }
    return post("/v1/predict?method=dmvfn", headers, pair.tobytes())


def _theirs(path: str) -> Callable[[Picture, float], bytes]:
    # None of them takes a deadline with a request; theirs is the server's.
    return lambda pair, deadline: post(path, {"Content-Type": RAW}, pack(pair))


def _triton(pair: Picture, deadline: float) -> bytes:
    return post(triton_messages.PATH, *triton_messages.request(pair))


def _bento(tuned: Tuned) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(tuned.port)]
    return ["-m", "bentoml", "serve", "benchmarks.peers.bento:Front", *where]


CONTENDERS = (
    Contender(OURS, lambda tuned: ["-m", "service", "serve"], _ours),
    Contender("litserve", lambda tuned: ["-m", "benchmarks.peers.litserve"], _theirs("/predict")),
    Contender("bentoml", _bento, _theirs("/predict")),
    Contender("mosec", lambda tuned: ["-m", "benchmarks.peers.mosec"], _theirs("/inference")),
    Contender("ray", lambda tuned: ["-m", "benchmarks.peers.ray_serve"], _theirs("/")),
    Contender(
        "triton",
        lambda tuned: ["-m", "benchmarks.peers.triton"],
        _triton,
        triton_messages.answer,
        package="nvidia-pytriton",
    ),
)


@contextlib.contextmanager
def running(contender: Contender, tuned: Tuned, sizes: str, core: int | None, log: Path) -> Iterator[int]:
    """The server while this lasts; gives its process id. Whether it answers yet is for the caller to find out."""
    ours = {
        "DMVFN_WEIGHTS": tuned.weights,
        "DMVFN_HTTP_PORT": str(tuned.port),
        "DMVFN_GRPC_ENABLED": "0",
        "DMVFN_MAX_BATCH": str(tuned.batch),
        "DMVFN_WARMUP_SIZES": sizes,
    }
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0"}
    # What a killed server leaves lies beside its log; Ray's sockets want a short path.
    places = {"TMPDIR": str(log.parent), "RAY_TMPDIR": tempfile.gettempdir()}
    with cores.only(core), log.open("wb") as file:
        process = subprocess.Popen(
            [str(contender.python), *contender.command(tuned)],
            cwd=ROOT,
            env={**os.environ, **ours, **quiet, **places, **tuned.environment()},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it and whatever it started: some start daemons of their own that outlive them."""
    family = cores.family(process.pid)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGTERM)
    end = time.monotonic() + 3
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    for pid in family:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
