"""How OpenMP's threads wait: what must be said before torch or numba are loaded."""

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
