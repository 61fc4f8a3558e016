"""Talks to a service with the protocol group's own client, unmodified; prints what it saw as JSON. Run by its Python.

Usage: open_inference_session.py URL FRAMES.npy
"""

from __future__ import annotations

import json
import sys

import numpy as np
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.types import InferenceRequest, RequestInput


def main(url: str, frames_file: str) -> None:
    """Ask for health and metadata, then for a prediction, whose numbers go out as doubles."""
    frames = np.load(frames_file)
    client = OpenInferenceClient(base_url=url)
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness("dmvfn")
    client.check_model_version_readiness("dmvfn", "1")
    tensor = RequestInput(
        name="FRAMES", shape=list(frames.shape), datatype="UINT8", data=[float(value) for value in frames.ravel()]
    )
    answer = client.model_infer("dmvfn", request=InferenceRequest(inputs=[tensor], parameters={"blocks": 3.0}))
    outputs = {output.name: output for output in answer.outputs}
    print(
        json.dumps(
            {
                "server": client.read_server_metadata().name,
                "model": client.read_model_metadata("dmvfn").name,
                "id": answer.id,
                "shape": list(outputs["PRED"].shape),
                "pred": [int(value) for value in np.ravel(outputs["PRED"].data.__root__)],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
