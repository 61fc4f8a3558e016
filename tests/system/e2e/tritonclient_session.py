"""Asks a service everything that tritonclient can; run by the Python that has it. Prints one JSON object.

Usage: tritonclient_session.py HTTP_ADDRESS GRPC_ADDRESS FRAMES.npy IMAGE IMAGE
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException

OPTIONS = {"steps": 2, "route": "budget", "blocks": 3}


def told(result: Any) -> dict[str, Any]:
    """What the answer held, small enough to print."""
    pred = result.as_numpy("PRED")
    return {
        "pred": hashlib.sha256(np.ascontiguousarray(pred).tobytes()).hexdigest(),
        "shape": list(pred.shape),
        "route": result.as_numpy("ROUTE").tolist(),
        "flops": result.as_numpy("FLOPS").tolist(),
    }


def inputs(kind: Any, frames: np.ndarray, **how: Any) -> list[Any]:
    """One FRAMES tensor."""
    tensor = kind.InferInput("FRAMES", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames, **how)
    return [tensor]


def refused(call: Callable[[], Any]) -> str:
    """The message with which the server refused."""
    try:
        call()
    except InferenceServerException as error:
        return str(error.message())
    raise AssertionError("the server should have refused")


def over_http(address: str, frames: np.ndarray, files: list[bytes]) -> dict[str, Any]:
    """Sync HTTP: binary, JSON, both compressions, images, everything that is not inference."""
    found: dict[str, Any] = {}
    with httpclient.InferenceServerClient(address) as client:
        found["live"] = client.is_server_live() and client.is_server_ready() and client.is_model_ready("dmvfn")
        found["metadata"] = client.get_server_metadata()
        found["model"] = client.get_model_metadata("dmvfn")
        found["config"] = client.get_model_config("dmvfn")
        found["index"] = client.get_model_repository_index()
        ask = {"model_name": "dmvfn", "parameters": OPTIONS, "request_id": "h1"}
        found["binary"] = told(client.infer(inputs=inputs(httpclient, frames), **ask))
        small = frames[:1, :, :16, :16].copy()
        outputs = [httpclient.InferRequestedOutput(name, binary_data=False) for name in ("PRED", "ROUTE", "FLOPS")]
        plain = client.infer(inputs=inputs(httpclient, small, binary_data=False), outputs=outputs, **ask)
        found["json"] = told(plain)
        found["json_as_binary"] = told(client.infer(inputs=inputs(httpclient, small), **ask))
        for coding in ("gzip", "deflate"):
            result = client.infer(
                inputs=inputs(httpclient, frames),
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
                **ask,
            )
            found[coding] = told(result)
            found[f"{coding}_used"] = result.get_response().get("id") == "h1"
        images = []
        for name, file in zip(("FRAME0", "FRAME1"), files, strict=True):
            tensor = httpclient.InferInput(name, [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[file]], dtype=np.object_))
            images.append(tensor)
        answer = client.infer("dmvfn_image", images, parameters={"format": "ppm"})
        found["image"] = bytes(answer.as_numpy("PRED")[0, 0])[:2].decode()
        found["refused"] = refused(lambda: client.infer("dmvfn", inputs(httpclient, frames), parameters={"steps": 99}))
        found["unknown"] = refused(lambda: client.get_model_metadata("nobody"))
        found["load"] = refused(lambda: client.load_model("dmvfn"))
        # The connection is still good after every refusal.
        found["after"] = told(client.infer(inputs=inputs(httpclient, frames), **ask))
        [found["statistics"]] = client.get_inference_statistics("dmvfn")["model_stats"]
    return found


async def over_http_aio(address: str, frames: np.ndarray) -> dict[str, Any]:
    """Async HTTP."""
    async with httpaio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        return told(await client.infer("dmvfn", inputs(httpaio, frames), parameters=OPTIONS))


def over_grpc(address: str, frames: np.ndarray) -> dict[str, Any]:
    """Sync gRPC, calls and a stream."""
    found: dict[str, Any] = {}
    with grpcclient.InferenceServerClient(address) as client:
        found["live"] = client.is_server_live() and client.is_server_ready() and client.is_model_ready("dmvfn")
        found["metadata"] = client.get_server_metadata(as_json=True)
        found["model"] = client.get_model_metadata("dmvfn", as_json=True)
        found["config"] = client.get_model_config("dmvfn", as_json=True)
        found["index"] = client.get_model_repository_index(as_json=True)
        found["call"] = told(client.infer("dmvfn", inputs(grpcclient, frames), parameters=OPTIONS, request_id="g"))
        found["refused"] = refused(lambda: client.infer("dmvfn", inputs(grpcclient, frames), parameters={"steps": 99}))
        answers: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for n in range(4):
            options = {**OPTIONS, "steps": 99} if n == 1 else OPTIONS
            client.async_stream_infer("dmvfn", inputs(grpcclient, frames), parameters=options, request_id=str(n))
        got = [answers.get(timeout=60) for _ in range(4)]
        client.stop_stream()
        found["stream"] = [str(error.message()) if error else told(result) for result, error in got]
        found["stream_ids"] = [result.get_response().id if result else None for result, _ in got]
        found["statistics"] = client.get_inference_statistics("dmvfn", as_json=True)["model_stats"][0]
    return found


async def over_grpc_aio(address: str, frames: np.ndarray) -> dict[str, Any]:
    """Async gRPC, a call and a stream."""
    async with grpcaio.InferenceServerClient(address) as client:
        call = told(await client.infer("dmvfn", inputs(grpcaio, frames), parameters=OPTIONS))

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for _ in range(3):
                yield {"model_name": "dmvfn", "inputs": inputs(grpcaio, frames), "parameters": OPTIONS}

        stream = []
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            stream.append(told(result))
        return {"call": call, "stream": stream}


def main() -> None:
    """Everything, one after the other."""
    http, grpc, tensor, *images = sys.argv[1:]
    frames = np.load(tensor)
    files = [Path(image).read_bytes() for image in images]
    print(
        json.dumps(
            {
                "http": over_http(http, frames, files),
                "http_aio": asyncio.run(over_http_aio(http, frames)),
                "grpc": over_grpc(grpc, frames),
                "grpc_aio": asyncio.run(over_grpc_aio(grpc, frames)),
            }
        )
    )


if __name__ == "__main__":
    main()
