"""LitServe: `LitAPI` with `max_batch_size` and `batch_timeout`, raw bodies. `python -m benchmarks.peers.litserve`."""

# No postponed annotations: LitServe reads the types of `decode_request` and `encode_response` as they are.
from typing import Annotated, Any

import litserve
from fastapi import Body
from starlette.responses import Response

from benchmarks.peers.handler import Handler, Tuned

#: Seconds a batch waits to fill. The default, 0, keeps a core busy while nothing comes.
WAIT = 0.01
#: The whole body as it came.
Raw = Annotated[bytes, Body(media_type="application/octet-stream")]


class Api(litserve.LitAPI):  # type: ignore[misc,unused-ignore]
    """Bodies through the handler, a batch at a time."""

    def setup(self, device: str) -> None:
        """LitServe's: in the worker process."""
        self._handler = Handler(Tuned.from_env())

    def decode_request(self, request: Raw) -> bytes:
        """LitServe's."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """LitServe's: left as a list, because sizes may differ."""
        return list(inputs)

    def predict(self, inputs: list[bytes]) -> list[bytes]:
        """LitServe's."""
        return self._handler(inputs)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """LitServe's."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """LitServe's."""
        return Response(output, media_type="application/octet-stream")


def main() -> None:
    """Serve until killed."""
    tuned = Tuned.from_env()
    api: Any = Api(max_batch_size=tuned.batch, batch_timeout=WAIT)
    server = litserve.LitServer(api, accelerator="cpu", timeout=tuned.deadline)
    server.run(host="127.0.0.1", port=tuned.port, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
