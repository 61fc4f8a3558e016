"""The real tritonclient, unmodified: HTTP sync and aio, gRPC sync, aio and streaming, against started edges."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from service.app_state import AppState
from service.core.types import Frame, Options, PredictRequest, PredictResult, RouteChoice
from tests.system.e2e.joined import joined
from tests.system.e2e.v2_tools import tools
from tests.unit.rpc.small import picture

SESSION = Path(__file__).parent / "tritonclient_session.py"


async def _expected(parts: AppState, frames: np.ndarray) -> dict[str, Any]:
    """What the engine itself answers to each item."""
    results: list[PredictResult] = []
    for older, newer in frames:
        request = PredictRequest(
            "x",
            Frame(older.copy()),
            Frame(newer.copy()),
            Options(route=RouteChoice.parse("budget", blocks=3), steps=2),
        )
        results.append(await parts.engine.predict(request))
    pred = np.stack([[step.frame.pixels for step in result.steps] for result in results])
    return {
        "pred": hashlib.sha256(pred.tobytes()).hexdigest(),
        "shape": list(pred.shape),
        "route": [[[int(bit) for bit in step.route] for step in result.steps] for result in results],
        "flops": [[float(step.flops) for step in result.steps] for result in results],
    }


async def test_every_client_gets_what_the_engine_answers(tmp_path: Path) -> None:
    clients = tools()
    frames = np.stack([[picture(2 * n, 48, 64), picture(2 * n + 1, 48, 64)] for n in range(3)])
    np.save(tmp_path / "frames.npy", frames)
    images = [tmp_path / f"{n}.png" for n in range(2)]
    for n, path in enumerate(images):
        Image.fromarray(frames[0, n]).save(path)
    async with joined() as service:
        expected = await _expected(service.parts, frames)
        found = json.loads(
            (
                await clients.run(
                    clients.python,
                    SESSION,
                    service.http.removeprefix("http://"),
                    service.grpc,
                    tmp_path / "frames.npy",
                    *images,
                )
            ).splitlines()[-1]
        )
    http, grpc = found["http"], found["grpc"]
    for answer in ("binary", "gzip", "deflate", "after"):
        assert http[answer] == expected, answer
    assert http["json"] == http["json_as_binary"]
    assert (http["gzip_used"], http["deflate_used"], http["image"]) == (True, True, "P6")
    assert (found["http_aio"], grpc["call"], found["grpc_aio"]["call"]) == (expected, expected, expected)
    assert found["grpc_aio"]["stream"] == [expected] * 3
    assert [grpc["stream"][n] for n in (0, 2, 3)] == [expected] * 3
    assert grpc["stream"][1].startswith("invalid_request: steps must be between 1 and")
    assert [grpc["stream_ids"][n] for n in (0, 2, 3)] == ["0", "2", "3"]
    _same_description(http, grpc)


def _same_description(http: dict[str, Any], grpc: dict[str, Any]) -> None:
    assert http["live"] is grpc["live"] is True
    assert http["metadata"] == grpc["metadata"]
    assert http["metadata"]["extensions"] == ["binary_tensor_data", "model_configuration", "parameters", "statistics"]
    assert [tensor["name"] for tensor in http["model"]["outputs"]] == ["PRED", "ROUTE", "FLOPS"]
    assert [tensor["name"] for tensor in grpc["model"]["outputs"]] == ["PRED", "ROUTE", "FLOPS"]
    assert http["model"]["inputs"][0] == {"name": "FRAMES", "datatype": "UINT8", "shape": [-1, 2, -1, -1, 3]}
    assert http["config"]["max_batch_size"] == grpc["config"]["config"]["max_batch_size"] == 8
    assert [model["state"] for model in http["index"]] == ["READY", "READY"]
    assert [model["state"] for model in grpc["index"]["models"]] == ["READY", "READY"]
    for refusal in (http["refused"], grpc["refused"]):
        assert "steps must be between 1 and 16" in refusal
    assert "no model" in http["unknown"]
    assert "cannot be loaded" in http["load"]
    # http: 3 items in binary, gzip, deflate and after; one each in json and json_as_binary.
    assert http["statistics"]["inference_count"] == 14
    assert int(grpc["statistics"]["inference_count"]) == 14 + 3 + 3 + 3 * 3
    assert http["statistics"]["inference_stats"]["fail"]["count"] == 1
