"""Tries what the protocol group's client can ask. Run by its Python: open_inference_calls.py HTTP GRPC FOLDER."""

from __future__ import annotations

import sys

import numpy as np
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.types import InferenceRequest, RequestInput

from tests.system.clients.attempts import Attempts


def main(http: str, _grpc: str, folder: str) -> None:
    """Everything, one after the other; it speaks REST only, and writes every number as a double."""
    attempts = Attempts("open-inference-openapi", folder)
    client = OpenInferenceClient(base_url=f"http://{http}")
    frames = attempts.frames

    def infer(**parameters: float) -> np.ndarray:
        data = [float(value) for value in frames.ravel()]
        tensor = RequestInput(name="FRAMES", shape=list(frames.shape), datatype="UINT8", data=data)
        request = InferenceRequest(inputs=[tensor], parameters={"blocks": 3.0, **parameters})
        answer = client.model_infer("dmvfn", request=request)
        output = next(output for output in answer.outputs if output.name == "PRED")
        return np.array(output.data.__root__).astype(np.uint8)

    # The checks return nothing, or raise.
    attempts.tried("check_server_liveness", lambda: client.check_server_liveness() is None)
    attempts.tried("check_server_readiness", lambda: client.check_server_readiness() is None)
    attempts.tried("check_model_readiness", lambda: client.check_model_readiness("dmvfn") is None)
    attempts.tried("check_model_version_readiness", lambda: client.check_model_version_readiness("dmvfn", "1") is None)
    attempts.tried("read_server_metadata", lambda: client.read_server_metadata().name)
    attempts.tried("read_model_metadata", lambda: client.read_model_metadata("dmvfn").name)
    attempts.tried("read_model_version_metadata", lambda: client.read_model_version_metadata("dmvfn", "1").name)
    attempts.tried("model_infer", infer)
    attempts.refused("model_infer, steps=99", lambda: infer(steps=99.0), "steps must be between")


if __name__ == "__main__":
    main(*sys.argv[1:])
