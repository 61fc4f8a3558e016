"""How the loops of the CPU path are compiled: numba's options, the types of arrays, float32 constants.

Compiled code is cached (`loop_cache`), so only the first start on a machine compiles; signatures are given in advance,
so that no request and no frame size ever does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
import torch

from model.inference.cpu import loop_cache

Loop = TypeVar("Loop", bound=Callable[..., None])

log = logging.getLogger(__name__)

# By name, because it is optional: type checkers need not find it.
_numba: Any = import_module("numba")
prange, get_thread_id = _numba.prange, _numba.get_thread_id

# OpenMP shares the processor politely with torch's own pool; the work queue, numba's last resort, tolerates one
# calling thread only, which `model.inference.cpu.runner` guarantees with a lock.
_numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
loop_cache.use()


def _start_threads() -> None:
    """Start numba's threads, and leave torch's number of them as it was.

    Starting them sets OpenMP's number for the thread that does it to that of the machine's cores, and torch, which
    shares OpenMP's runtime, would go by it from then on.
    """
    threads = torch.get_num_threads()
    _numba.get_num_threads()
    torch.set_num_threads(threads)


_start_threads()

#: Signature parts: contiguous float32 arrays of one to four dimensions, and frames of any strides.
F1, F2, F3, F4 = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]", "float32[:,:,:,::1]"
FRAME = "float32[:,:,:]"

#: Literals would be float64 inside compiled code, and every operation with them too.
ZERO, QUARTER, ONE, TWO = np.float32(0), np.float32(0.25), np.float32(1), np.float32(2)
FOUR, FIVE, EIGHT = np.float32(4), np.float32(5), np.float32(8)

# Not the full fast mathematics: that would let the compiler assume that no NaN ever arrives.
_OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"}, "error_model": "numpy"}


def kernel(signature: str) -> Callable[[Loop], Loop]:
    """Compile now, with `prange` shared among threads, for exactly these argument types."""
    return lambda loop: _compiled(loop, f"void({signature})", parallel=True, nogil=True)


def sequential_kernel(signature: str) -> Callable[[Loop], Loop]:
    """Compile now, for exactly these argument types, what several threads may call at once, each for itself."""
    return lambda loop: _compiled(loop, f"void({signature})", nogil=True)


def inlined(loop: Loop) -> Loop:
    """Compile a part of kernels together with whichever kernel calls it."""
    return _compiled(loop)


def _compiled(loop: Loop, *signature: str, **options: bool) -> Loop:
    try:
        machine_code = _numba.njit(*signature, cache=True, **options, **_OPTIONS)(loop)
    except RuntimeError:
        # No folder to cache in can be written (a read-only container): compile at each start instead.
        machine_code = _numba.njit(*signature, **options, **_OPTIONS)(loop)
    if signature and not sum(machine_code.stats.cache_hits.values()):
        _say_once()
    return cast("Loop", machine_code)


@cache
def _say_once() -> None:
    """Log why a start takes longer than usual: the first loop was not in the cache, and the others will not be."""
    log.info("compiling the network's loops for this processor; once, if its cache is kept: half a minute or so")


def use_threads(limit: int) -> int:
    """Share kernels called from this thread among `limit` threads at most; return how many it will be."""
    count: int = min(limit, _numba.config.NUMBA_NUM_THREADS)
    _numba.set_num_threads(count)
    return count
