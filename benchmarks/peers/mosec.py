"""Mosec: one worker stage with dynamic batching, raw bodies. `python -m benchmarks.peers.mosec`."""

from __future__ import annotations

import sys
from typing import Any

import mosec

from benchmarks.peers.handler import Handler, Tuned

#: Milliseconds a batch waits to fill: Mosec's default.
WAIT = 10


class Predict(mosec.Worker):  # type: ignore[misc,unused-ignore]
    """Bodies through the handler, a batch at a time."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        self._handler = Handler(Tuned.from_env())

    def deserialize(self, data: bytes) -> bytes:
        """Mosec's: a body is taken as it comes."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Mosec's."""
        return data

    def forward(self, data: Any) -> Any:
        """Mosec's: a list of bodies, or one where the batch is one."""
        return self._handler(data) if isinstance(data, list) else self._handler([data])[0]


def main() -> None:
    """Serve until killed."""
    tuned = Tuned.from_env()
    # Mosec reads its settings from the command line.
    wanted = {"--address": "127.0.0.1", "--port": str(tuned.port), "--timeout": str(int(1000 * tuned.deadline))}
    sys.argv[1:] = [word for pair in {**wanted, "--log-level": "error"}.items() for word in pair]
    server = mosec.Server()
    server.append_worker(Predict, num=1, max_batch_size=tuned.batch, max_wait_time=WAIT)
    server.run()


if __name__ == "__main__":
    main()
