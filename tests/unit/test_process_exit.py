"""A process ends by its own status, though its device's thread is still at work."""

from __future__ import annotations

import subprocess
import sys
import threading

from service.process_exit import DEVICE_THREAD, leave
from tests.house import ROOT
from tests.unit.engine.tiny import Rigged, batching

#: A device's thread that does not end, as one in a long warm-up.
BUSY = """
import sys, threading, torch
from service.process_exit import DEVICE_THREAD, leave

torch.set_num_threads(1)
picture, started = torch.zeros(1, 1, 64, 64), threading.Event()

def run():
    while True:
        torch.nn.functional.conv2d(picture, picture[:, :, :3, :3])
        started.set()

threading.Thread(target=run, name=DEVICE_THREAD, daemon=True).start()
started.wait()
print("the last word")
sys.exit(leave(7))
"""


def test_a_device_left_behind_does_not_change_the_status() -> None:
    """torch aborts the process (134) if the interpreter ends under its thread."""
    command = [sys.executable, "-c", BUSY]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (7, "the last word\n", "")


def test_without_one_it_is_handed_on() -> None:
    assert leave(3) == 3


async def test_the_engines_thread_has_that_name() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    async with batching(Rigged()):
        assert DEVICE_THREAD in {thread.name for thread in threading.enumerate() if thread.ident not in before}
