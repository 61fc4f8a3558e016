"""A front end over Redis decodes, admits and encodes, and never loads what the network needs."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.system.e2e.process import ROOT

#: Builds what `service.app.serve` builds with DMVFN_ENGINE=redis, starts gRPC, decodes a frame and encodes it again.
FRONT_END = """
import asyncio, json, sys
import numpy as np
from service import app, backends
from service.app_state import AppState
from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec_pool import Codecs
from service.settings import Settings

async def build():
    settings = Settings.from_env({
        "DMVFN_ENGINE": "redis", "DMVFN_REDIS_URL": "redis://127.0.0.1:1/0",
        "DMVFN_GRPC_HOST": "127.0.0.1", "DMVFN_GRPC_PORT": "0",
    })
    metrics = app.make_metrics()
    backend = backends.RedisBackend(settings, metrics)
    engine = backends.DrainingEngine(backend.engine)
    limits = codec.FrameLimits.of(settings)
    state = AppState(settings, engine, Codecs(limits, 1, metrics), metrics)
    edges = (app.oip, app.stream, app.demo, app.video)
    app.rest.build(state, [edge.router(state) for edge in edges], jobs=backend.jobs)
    server = await app.rpc.start(state, None)
    picture = codec.encode(Frame(np.full((32, 48, 3), 7, np.uint8)), codec.ImageFormat.PNG)
    assert codec.decode(picture, limits, "frame").pixels.max() == 7
    await server.drain(0.0)
    state.codecs.close()
    await backend.close()

asyncio.run(build())
print(json.dumps(sorted(sys.modules)))
"""
#: numpy, Pillow and PyAV decode and encode; redis, FastAPI, uvicorn, grpcio and prometheus_client carry. These may not.
FORBIDDEN = ("torch", "triton", "numba", "llvmlite", "cv2", "model", "service.distributed.worker")


def test_a_front_end_over_redis_loads_neither_torch_nor_the_engine() -> None:
    process = subprocess.run(
        [sys.executable, "-c", FRONT_END], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    modules = json.loads(process.stdout.splitlines()[-1])
    assert {"service.distributed.frontend.backend", "numpy", "PIL.Image", "redis", "grpc"} <= set(modules)
    # The package `model` itself says how long OpenMP's threads may spin, and imports nothing but os.
    may_not = {name for name in modules if f"{name}.".startswith(tuple(f"{room}." for room in FORBIDDEN))}
    assert may_not <= {"model"}
    # Costs are predicted as a worker predicts them, by code that needs no device.
    engine = {name for name in modules if name.startswith("service.engine.")}
    assert {name for name in engine if not f"{name}.".startswith("service.engine.scheduling.")} == set()
