"""Pictures that lie in a `bytes` object: whoever sends one on as bytes need not copy it, which is megabytes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import numpy as np

from model.motion.field import Pixels

_PROTOTYPE = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)
#: Python's own way to make bytes whose contents come later: without any, it leaves them to the caller.
_new_bytes = _PROTOTYPE(("PyBytes_FromStringAndSize", ctypes.pythonapi))


def filled(shape: tuple[int, ...], fill: Callable[[Pixels], object]) -> Pixels:
    """Return a read-only picture of `shape`, more than one byte, in bytes of its own.

    `fill` is called with it while it can be written to, and must not keep it.
    """
    size = math.prod(shape)
    picture = np.frombuffer(_new_bytes(None, size), np.uint8).reshape(shape)
    # Nobody else has these bytes yet.
    writable = (ctypes.c_uint8 * size).from_address(picture.ctypes.data)
    fill(np.frombuffer(memoryview(writable), np.uint8).reshape(shape))
    return picture
