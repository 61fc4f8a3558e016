"""Ends the process by the status that it means, though a device still be at work."""

from __future__ import annotations

import logging
import os
import sys
import threading

#: As the engine names the thread of its device.
DEVICE_THREAD = "device"


def leave(status: int) -> int:
    """Return `status`; where a device's thread was left behind, end the process by it at once.

    Python ends such a thread when it next asks for the interpreter's lock, which within torch aborts the process: 134.
    """
    if any(thread.name == DEVICE_THREAD for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
