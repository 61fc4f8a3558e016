"""Who runs the same weights on the same frames: our paths, the published form, other runtimes where installed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.dmvfn.network import DMVFN
from model.export import FullRoute, to_onnx
from model.inference import predict as inference
from model.inference import torch_path
from model.inference.cpu import runner as cpu_runner
from model.inference.cuda import runner as cuda_runner

#: Runs once and returns the predicted frame 1x3xHxW.
Run = Callable[[], Tensor]


def ours(network: DMVFN, previous: Tensor, current: Tensor, route: Tensor) -> Run:
    """Routing and the blocks of `route`, as the service runs them."""

    def run() -> Tensor:
        inference.probabilities(network, previous, current)
        return inference.predict(network, previous, current, route).frame

    return run


def published(network: DMVFN, previous: Tensor, current: Tensor) -> Run:
    """The published form: plain eager modules with routing, a blend after each of the nine blocks."""
    whole = FullRoute(network).eval()

    @torch.inference_mode()
    def run() -> Tensor:
        frame: Tensor = whole(previous, current)[0]
        return frame

    return run


def plain_torch(network: DMVFN, previous: Tensor, current: Tensor, route: Tensor) -> Run:
    """Our path without numba or triton: routing, no blends but the last, which is left to the caller here."""

    @torch.inference_mode()
    def run() -> Tensor:
        network.routing_probabilities(previous, current)
        flow, _ = torch_path.estimate(network, previous, current, route)
        return flow[:, :3]

    return run


def openvino(network: DMVFN, previous: Tensor, current: Tensor, threads: int) -> Run | None:
    """The full route with routing, compiled for this size by OpenVINO in float32; None where not installed."""
    if find_spec("openvino") is None:
        return None
    ov: Any = import_module("openvino")
    shape = list(previous.shape)
    graph = ov.convert_model(FullRoute(network).eval(), example_input=(previous, current), input=[shape, shape])
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(graph, "CPU", hints).create_infer_request()
    inputs = [previous.numpy(), current.numpy()]
    return lambda: torch.from_numpy(next(iter(request.infer(inputs).values())))


def onnx_runtime(network: DMVFN, previous: Tensor, current: Tensor, threads: int) -> Run | None:
    """The full route with routing by ONNX Runtime; None where it or the exporter is not installed."""
    if any(find_spec(name) is None for name in ("onnxruntime", "onnx", "onnxscript")):
        return None
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.onnx"
        to_onnx(network, path, *previous.shape[2:])
        session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    inputs = {"older": previous.numpy(), "newer": current.numpy()}
    return lambda: torch.from_numpy(session.run(["frame"], inputs)[0])


def ready(network: DMVFN) -> bool:
    """Whether a path made for this device runs here; prepared now, so that no measurement pays for it."""
    return cpu_runner.of(network) is not None or cuda_runner.of(network) is not None
