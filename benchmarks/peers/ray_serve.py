"""Ray Serve: one replica, `@serve.batch`, raw bodies. `python -m benchmarks.peers.ray_serve`."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.handler import Handler, Tuned

TUNED = Tuned.from_env()
#: Seconds a batch waits to fill: Ray's default.
WAIT = 0.01


@serve.deployment(max_ongoing_requests=10 * TUNED.batch, ray_actor_options={"num_cpus": 1})  # type: ignore[untyped-decorator,unused-ignore]
class Predict:
    """Bodies through the handler, a batch at a time."""

    def __init__(self) -> None:
        self._handler = Handler(TUNED)

    @serve.batch(max_batch_size=TUNED.batch, batch_wait_timeout_s=WAIT)  # type: ignore[untyped-decorator,unused-ignore]
    async def predict(self, bodies: list[bytes]) -> list[bytes]:
        """Ray's."""
        return self._handler(bodies)

    async def __call__(self, request: Request) -> Response:
        """Ray's."""
        return Response(await self.predict(await request.body()), media_type="application/octet-stream")


def main() -> None:
    """Serve until killed."""
    ray.init(num_cpus=1, include_dashboard=False, logging_level="error", log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": TUNED.port, "request_timeout_s": TUNED.deadline},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    application: Any = Predict
    serve.run(application.bind(), route_prefix="/")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
