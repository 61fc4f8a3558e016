"""Who runs the same weights on the same frames: our paths, the published form, other runtimes where installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.dmvfn.network import DMVFN
from model.export import FullRoute, to_onnx
from model.inference import torch_path
from model.inference.cpu import runner as cpu_runner
from model.inference.cuda import runner as cuda_runner
from model.inference.predict import FramePairs

#: Runs once and returns the predicted frame 1x3xHxW.
Run = Callable[[], Tensor]


def ours(network: DMVFN, previous: Tensor, current: Tensor, route: Tensor) -> Run:
    """Routing and the blocks of `route`, as the service runs them."""

    def run() -> Tensor:
        pairs = FramePairs(network, previous, current)
        pairs.probabilities()
        return pairs.predict(route).frame

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
    """The full route with routing, compiled for this size by OpenVINO; None where not installed.

    In float32, or under torch's autocast to bfloat16 with what it has for that.
    """
    if find_spec("openvino") is None:
        return None
    ov: Any = import_module("openvino")
    shape = list(previous.shape)
    half = torch.is_autocast_enabled("cpu")
    # Its own types: autocast would be part of the graph.
    with torch.autocast("cpu", enabled=False):
        graph = ov.convert_model(FullRoute(network).eval(), example_input=(previous, current), input=[shape, shape])
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
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


def ncnn(network: DMVFN, previous: Tensor, current: Tensor, threads: int) -> Run | None:
    """The full route with routing by ncnn in float32, converted by its pnnx; None where either is not installed."""
    if any(find_spec(name) is None for name in ("ncnn", "pnnx")):
        return None
    runtime: Any = import_module("ncnn")
    trace: Any = torch.jit.trace
    net = runtime.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        traced, parameters, weights = (str(Path(folder, name)) for name in ("full.pt", "full.param", "full.bin"))
        trace(FullRoute(network).eval(), (previous, current), check_trace=False).save(traced)
        # Without fp16=0 pnnx stores half of each weight's bits.
        command = [import_module("pnnx").EXEC_PATH, traced, "fp16=0", f"ncnnparam={parameters}", f"ncnnbin={weights}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        net.load_param(parameters)
        net.load_model(weights)
    inputs = {"in0": previous[0].numpy(), "in1": current[0].numpy()}

    def run() -> Tensor:
        extractor = net.create_extractor()
        for name, frame in inputs.items():
            extractor.input(name, runtime.Mat(frame))
        # ncnn runs only what an extracted output needs: without the probabilities there would be no routing.
        extractor.extract("out1")
        return torch.from_numpy(np.array(extractor.extract("out0")[1]))[None]

    return run


def mnn(network: DMVFN, previous: Tensor, current: Tensor, threads: int) -> Run | None:
    """The full route with routing by MNN in float32; None where it or the ONNX exporter is not installed."""
    if any(find_spec(name) is None for name in ("MNN", "onnxruntime", "onnx", "onnxscript")):
        return None
    runtime: Any = import_module("MNN")
    manager = runtime.nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": threads},))
    with tempfile.TemporaryDirectory() as folder:
        graph, model = (str(Path(folder, name)) for name in ("full.onnx", "full.mnn"))
        to_onnx(network, Path(graph), *previous.shape[2:])
        # Not the command mnnconvert, which installs and runs another package that reports each conversion.
        convert = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
        options = ["-f", "ONNX", "--modelFile", graph, "--MNNModel", model, "--bizCode", "dmvfn"]
        command = [sys.executable, "-c", convert, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        outputs = ["frame", "probabilities"]
        module = runtime.nn.load_module_from_file(
            model, ["older", "newer"], outputs, runtime_manager=manager, shape_mutable=False, rearrange=True
        )
    expressions = runtime.expr
    inputs = [expressions.placeholder(list(previous.shape), expressions.NCHW) for _ in (previous, current)]

    def run() -> Tensor:
        for variable, frame in zip(inputs, (previous, current), strict=True):
            variable.write(frame.numpy())
        frame, probabilities = module.forward(inputs)
        probabilities.read()
        return torch.from_numpy(np.array(expressions.convert(frame, expressions.NCHW).read()))

    return run


#: Runtimes, by their word for `--against`, that run in bfloat16, too.
HALF = ("openvino",)
#: What makes a contender for a pair and a number of threads; None where its packages are not installed.
Maker = Callable[[DMVFN, Tensor, Tensor, int], Run | None]
#: Other runtimes by their word for `--against`: what the table calls each, and what makes it.
OTHERS: Mapping[str, tuple[str, Maker]] = {
    "openvino": ("OpenVINO", openvino),
    "onnxruntime": ("ONNX Runtime", onnx_runtime),
    "ncnn": ("ncnn", ncnn),
    "mnn": ("MNN", mnn),
}


def others(network: DMVFN, previous: Tensor, current: Tensor, threads: int, words: Sequence[str]) -> dict[str, Run]:
    """Make the runtimes of `words` (keys of OTHERS), by name; print a sentence for each that is not installed."""
    runs = {}
    for word in words:
        name, make = OTHERS[word]
        with warnings.catch_warnings():
            # OpenVINO and pnnx read TorchScript traces, which torch calls deprecated.
            warnings.simplefilter("ignore")
            run = make(network, previous, current, threads)
        if run is None:
            print(f"  {name} is not installed and is left out; requirements/runtimes.txt has it.")
        else:
            runs[name] = run
    return runs


def ready(network: DMVFN) -> bool:
    """Whether a path made for this device runs here; prepared now, so that no measurement pays for it."""
    return cpu_runner.of(network) is not None or cuda_runner.of(network) is not None
