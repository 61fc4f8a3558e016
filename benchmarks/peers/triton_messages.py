"""Bodies of the Open Inference Protocol with binary tensors, as Triton takes and sends them: JSON, then bytes."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.bare import Picture

MODEL, PAIR, FRAME = "dmvfn", "pair", "frame"
PATH = f"/v2/models/{MODEL}/infer"


def _tensor(name: str, values: Picture) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "datatype": "UINT8", "shape": [1, *values.shape]}
    return {**described, "parameters": {"binary_data_size": values.nbytes}}


def request(pair: Picture) -> tuple[dict[str, str], bytes]:
    """Headers and body that ask for the next frame of a pair 2xHxWx3, to be POSTed to PATH."""
    outputs = [{"name": FRAME, "parameters": {"binary_data": True}}]
    document = json.dumps({"inputs": [_tensor(PAIR, pair)], "outputs": outputs}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(document))}
    return headers, document + pair.tobytes()


def answer(frame: Picture) -> bytes:
    """The body that answers with a frame HxWx3, as Triton writes it."""
    document = {"model_name": MODEL, "model_version": "1", "outputs": [_tensor(FRAME, frame)]}
    return json.dumps(document, separators=(",", ":")).encode() + frame.tobytes()
