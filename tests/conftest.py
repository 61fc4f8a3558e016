"""What every test runs under: one thread for the network, a GPU's loops interpreted, no deadline inside hypothesis."""

from __future__ import annotations

import gc
import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# Without a GPU its loops run too, interpreted. Before anything imports triton, which reads this once.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Two cores run the tests; a small network is slower with two threads than with one.
torch.set_num_threads(1)
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


pytest_plugins = ["tests.reruns"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts whole processes `processes`, of these what loads them fully `alone`; put browser tests last.

    Playwright keeps an event loop running in this thread, under which no other can run.
    """
    for item in items:
        if item.nodeid.startswith("tests/system/"):
            item.add_marker(pytest.mark.processes)
        if item.nodeid.startswith(("tests/system/chaos/", "tests/system/soak/")):
            item.add_marker(pytest.mark.alone)
    items.sort(key=lambda item: "tests/system/browser/" in item.nodeid)


def pytest_collection_finish() -> None:
    """Never look through what collecting left, 600,000 objects, when garbage of tests is looked for."""
    gc.collect()
    gc.freeze()
