"""OpenMP's threads: how they wait, and how many there are, with torch and numba sharing one runtime."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Stops at the first library that brings an OpenMP pool, and prints what that pool would read.
WATCHED = """
import os, sys
class Watch:
    def find_spec(self, name, path, target=None):
        if name in ("torch", "numba"):
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
import {module}
"""


@pytest.mark.parametrize(
    ("module", "own", "expected"), [("service.engine.predictor", None, "1000"), ("model.checkpoint", "7", "7")]
)
def test_idle_threads_hardly_spin_unless_the_environment_says_otherwise(
    module: str, own: str | None, expected: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"GOMP_SPINCOUNT": own} if own else {}
    run = [sys.executable, "-c", WATCHED.format(module=module)]
    printed = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert printed.strip() == expected


#: Predicts twice on one thread, and prints how many threads torch and our loops use.
COUNTED = """
import torch
from model.dmvfn.network import DMVFN
from model.inference import predict
from model.inference.cpu import runner
torch.set_num_threads(1)
torch.get_num_threads()  # from here on torch takes OpenMP's number for its own
network = DMVFN().eval().requires_grad_(False)
frames = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
for _ in range(2):
    predict.probabilities(network, *frames)
    print(torch.get_num_threads(), runner.of(network)._workers)
"""


def test_compiled_loops_leave_the_number_of_threads_that_was_set() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    run = [sys.executable, "-c", COUNTED]
    printed = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
    assert printed.splitlines() == ["1 1", "1 1"]
