"""A start says what it does, and loads nothing that the first prediction does not need."""

from __future__ import annotations

import gc
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service import startup
from tests.house import ROOT

#: Heavy, or of training, of the tests, of other devices; some of them are what torch loads by itself when asked to.
UNNEEDED = {
    *("scipy", "pandas", "matplotlib", "sklearn", "skimage", "onnx", "onnxruntime", "av", "redis", "hypothesis"),
    *(
        "sympy",
        "mpmath",
        "networkx",
        "triton",
        "torch._dynamo",
        "torch._inductor",
        "torch.onnx",
        "torch.utils.tensorboard",
    ),
    *(
        "opentelemetry.sdk",
        "opentelemetry.exporter",
        "model.training",
        "model.evaluation",
        "model.cli",
        "service.distributed",
    ),
}
#: The service as `serve` starts it; when it is ready it prints what is loaded, and stops as SIGTERM would have it.
SERVES = """
import json, os, signal, sys
from service import __main__, app, startup

gates, finish, draining_engine = [], startup.finish, app.DrainingEngine
states = []

def gate(*arguments, **options):
    gates.append(draining_engine(*arguments, **options))
    return gates[-1]

def finish_start():
    states.append(gates[0].readiness().reason)
    finish()

app.DrainingEngine, startup.finish = gate, finish_start

def ready(text):
    states.append(gates[0].readiness().reason)
    print(json.dumps({"modules": sorted(sys.modules), "states": states}), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

app.serve.__defaults__ = (ready,)
sys.exit(__main__.main(["serve"]))
"""


@pytest.fixture(scope="module")
def start() -> subprocess.CompletedProcess[str]:
    """A start to its readiness, warm-up included, on a small frame."""
    own = {"HTTP_PORT": "0", "GRPC_PORT": "0", "WARMUP_SIZES": "32x32", "THREADS": "1", "LOG_FORMAT": "json"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DMVFN_")}
    environment |= {f"DMVFN_{name}": value for name, value in own.items()}
    return subprocess.run(
        [sys.executable, "-c", SERVES],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_nothing_is_loaded_that_the_first_prediction_does_not_need(start: subprocess.CompletedProcess[str]) -> None:
    assert start.returncode == 0, start.stderr
    modules = set(json.loads(start.stdout)["modules"])
    assert {"torch", "fastapi", "grpc", "model.mixing.kernels", "model.inference.cpu.frame_kernels"} <= modules
    assert not modules & UNNEEDED


def test_it_is_ready_only_after_what_would_stop_every_request(start: subprocess.CompletedProcess[str]) -> None:
    """Garbage of the whole start is looked for last: 0.14 s in which nobody would be answered."""
    assert json.loads(start.stdout)["states"] == ["starting", None]


def test_the_log_says_what_a_start_does_and_how_long_it_took(start: subprocess.CompletedProcess[str]) -> None:
    messages = [json.loads(line)["message"] for line in start.stderr.splitlines()]
    stages = [message for message in messages if message.startswith(("settings in", "starting:", "started"))]
    expected = [
        "settings in force",
        "starting: loading the service",
        "starting: loading torch",
        "starting: reading the weights",
    ]
    assert [stage[: len(text)] for stage, text in zip(stages, expected, strict=False)] == expected
    assert stages[-1].startswith("started in ")
    assert stages[-1].endswith("of processor time")
    assert len(stages) == len(expected) + 1


def test_it_does_not_wait_for_memory_to_be_moved(start: subprocess.CompletedProcess[str]) -> None:
    """That takes a tenth of a start, and the first requests need it no more than the later ones."""
    assert "large pages" not in start.stderr


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield startup._USUAL
    gc.set_threshold(*before)


def test_garbage_is_looked_for_seldom_while_it_lasts_and_as_usual_then(
    thresholds: tuple[int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service")
    before = gc.get_threshold()
    startup.begin("a test")
    assert gc.get_threshold() == before
    startup.collect_seldom()
    assert gc.get_threshold()[0] > 100 * thresholds[0]
    startup.finish()
    assert gc.get_threshold() == thresholds
    assert caplog.records[0].message.split(" (")[0] == "starting: a test"


#: Frames of 256x448 made and freed, twenty times, and the page faults of the last ten.
FREES = """
import resource
from service import startup

{before}
for turn in range(20):
    if turn == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    frames = [bytearray(344_064) for _ in range(4)]
    joined = b"".join(frames)
    del frames, joined
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries free memory by rules of their own")
def test_memory_of_frames_is_kept_for_the_next_ones() -> None:
    def faults(before: str) -> int:
        command = [sys.executable, "-c", FREES.format(before=before)]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    assert faults("") > 5000
    assert faults("startup.keep_freed_memory()") < 500
