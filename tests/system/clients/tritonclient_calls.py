"""Tries what tritonclient can ask. Run by its Python: tritonclient_calls.py HTTP GRPC FOLDER."""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio

from tests.system.clients.attempts import Attempts

OPTIONS = {"blocks": 3}


def tensors(module: Any, frames: np.ndarray, **how: Any) -> list[Any]:
    """FRAMES, as `module` sends it."""
    tensor = module.InferInput("FRAMES", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames, **how)
    return [tensor]


def images(module: Any, files: list[bytes]) -> list[Any]:
    """FRAME0 and FRAME1, as `module` sends them."""
    inputs = []
    for name, file in zip(("FRAME0", "FRAME1"), files, strict=True):
        tensor = module.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[file]], dtype=np.object_))
        inputs.append(tensor)
    return inputs


class Session:
    """One transport of tritonclient: `module`, its open `client`, and what its calls are called by."""

    def __init__(self, attempts: Attempts, wire: str, module: Any, client: Any) -> None:
        self.attempts, self.wire, self.module, self.client = attempts, wire, module, client

    def tried(self, call: str, ask: Any) -> None:
        """Try a call that must be answered."""
        self.attempts.tried(f"{self.wire} {call}", ask)

    def refused(self, call: str, ask: Any, words: str) -> None:
        """Try a call that must be refused."""
        self.attempts.refused(f"{self.wire} {call}", ask, words)

    def infer(self, *, binary: bool | None = None, **how: Any) -> np.ndarray:
        """The prediction; `how` goes to `infer`, `binary` to the tensor."""
        inputs = tensors(self.module, self.attempts.frames, **({} if binary is None else {"binary_data": binary}))
        return self.client.infer("dmvfn", inputs, **{"parameters": OPTIONS, **how}).as_numpy("PRED")  # type: ignore[no-any-return]

    def infer_files(self) -> bool:
        """Tell whether files are answered with a file."""
        answer = self.client.infer("dmvfn_image", images(self.module, self.attempts.files))
        return bool(answer.as_numpy("PRED")[0, 0].startswith(b"\x89PNG"))

    def describe(self) -> None:
        """Try everything that is no inference; the names are those of both transports."""
        client, offered_elsewhere = self.client, "set up by the service"
        self.tried("is_server_live", client.is_server_live)
        self.tried("is_server_ready", client.is_server_ready)
        self.tried("is_model_ready", lambda: client.is_model_ready("dmvfn"))
        self.tried("is_model_ready, of a version", lambda: client.is_model_ready("dmvfn", "1"))
        self.tried("get_server_metadata", client.get_server_metadata)
        self.tried("get_model_metadata", lambda: client.get_model_metadata("dmvfn"))
        self.tried("get_model_config", lambda: client.get_model_config("dmvfn"))
        self.tried("get_model_repository_index", client.get_model_repository_index)
        self.tried("get_inference_statistics", client.get_inference_statistics)
        self.refused("load_model", lambda: client.load_model("dmvfn"), "DMVFN_MODEL_CONTROL")
        self.refused("get_trace_settings", client.get_trace_settings, offered_elsewhere)
        self.refused("get_log_settings", client.get_log_settings, offered_elsewhere)
        self.refused("get_system_shared_memory_status", client.get_system_shared_memory_status, "shared memory")
        self.refused(
            "register_system_shared_memory",
            lambda: client.register_system_shared_memory("here", "/here", 64),
            "shared memory",
        )

    def predict(self) -> None:
        """Try the inferences that both transports have."""
        self.tried("infer", self.infer)
        self.tried("infer, with an id and a timeout", lambda: self.infer(request_id="7", timeout=60_000_000))
        self.tried("infer of a version", lambda: self.infer(model_version="1"))
        self.tried("infer of image files", self.infer_files)
        self.refused("infer, steps=99", lambda: self.infer(parameters={"steps": 99}), "steps must be between")
        classes = [self.module.InferRequestedOutput("PRED", class_count=2)]
        self.refused("infer, classification", lambda: self.infer(outputs=classes), "classification")


def over_http(attempts: Attempts, address: str) -> None:
    """Sync HTTP, JSON and compressed too, then aio."""
    with httpclient.InferenceServerClient(address) as client:
        session = Session(attempts, "HTTP", httpclient, client)
        session.describe()
        session.predict()
        plain = [httpclient.InferRequestedOutput("PRED", binary_data=False)]
        session.tried("infer, JSON", lambda: session.infer(binary=False, outputs=plain))
        for coding in ("gzip", "deflate"):
            how = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
            session.tried(f"infer, {coding}", lambda how=how: session.infer(**how))
        inputs = tensors(httpclient, attempts.frames)
        session.tried(
            "async_infer", lambda: client.async_infer("dmvfn", inputs, parameters=OPTIONS).get_result().as_numpy("PRED")
        )

    async def aio() -> np.ndarray:
        async with httpaio.InferenceServerClient(address) as client:
            answer = await client.infer("dmvfn", tensors(httpaio, attempts.frames), parameters=OPTIONS)
            return answer.as_numpy("PRED")  # type: ignore[no-any-return]

    attempts.tried("HTTP aio infer", lambda: asyncio.run(aio()))


def over_grpc(attempts: Attempts, address: str) -> None:
    """Sync gRPC, a stream too, then aio."""
    frames = attempts.frames
    with grpcclient.InferenceServerClient(address) as client:
        session = Session(attempts, "gRPC", grpcclient, client)
        session.describe()
        session.predict()
        session.tried("infer, gzip", lambda: session.infer(compression_algorithm="gzip"))

        def streamed() -> np.ndarray:
            answers: queue.Queue[Any] = queue.Queue()
            client.start_stream(lambda result, error: answers.put((result, error)))
            client.async_stream_infer("dmvfn", tensors(grpcclient, frames), parameters=OPTIONS)
            result, error = answers.get(timeout=60)
            client.stop_stream()
            assert error is None, error
            return result.as_numpy("PRED")  # type: ignore[no-any-return]

        session.tried("async_stream_infer", streamed)

    async def aio() -> np.ndarray:
        async with grpcaio.InferenceServerClient(address) as client:

            async def requests() -> AsyncIterator[dict[str, Any]]:
                yield {"model_name": "dmvfn", "inputs": tensors(grpcaio, frames), "parameters": OPTIONS}

            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                return result.as_numpy("PRED")  # type: ignore[no-any-return]
        raise AssertionError("the stream ended without an answer")

    attempts.tried("gRPC aio stream_infer", lambda: asyncio.run(aio()))


def main(http: str, grpc: str, folder: str) -> None:
    """Both transports, one after the other."""
    attempts = Attempts("tritonclient", folder)
    over_http(attempts, http)
    over_grpc(attempts, grpc)


if __name__ == "__main__":
    main(*sys.argv[1:])
