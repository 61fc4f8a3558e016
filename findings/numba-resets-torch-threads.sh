#!/usr/bin/env bash
# numba 0.68.1 beside torch 2.13.0: the first parallel loop undoes torch.set_num_threads() in its thread.
#
# A program tells torch to use one thread, asks torch for the number, runs a loop that numba compiled with `parallel=True`
# (over OpenMP, its layer where TBB is not installed), and asks again. numba is told to have three threads, so that the
# number is the same on every machine.
#
# Output seen (CPython 3.11.7):
#     torch 2.13.0 numba 0.68.1 layer omp
#     threads of torch: set 1, before the loop 1, after it 3
#     in a thread started later 1
#     after torch.set_num_threads(1) and another loop 1
#
# Why it surprises: nothing in the program mentions torch's threads after they were set. Both libraries load the system's
# OpenMP runtime or one that answers for it, and numba, which starts its threads with the first parallel loop (also by
# loading one from its cache), sets that runtime's number for the calling thread; torch reads it from there. A benchmark "of
# one thread" so measures all cores, and a service shares more of them than it was given. Setting the number again, after
# the first loop, lasts. If torch was not asked and ran nothing before the loop, it sets its own number later, and all is
# well: whether it happens depends on the order.
# Known upstream: numba/numba issue 9387, of numba's own thread functions and versions from 2023; closed as stale.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install -q --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys
import threading

import numba
import numpy as np
import torch


@numba.njit(parallel=True)
def double(values):
    for i in numba.prange(values.size):
        values[i] *= 2


torch.set_num_threads(1)
before = torch.get_num_threads()
double(np.ones(8))
after = torch.get_num_threads()
elsewhere = []
thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
thread.start()
thread.join()
torch.set_num_threads(1)
double(np.ones(8))
again = torch.get_num_threads()
print("torch", torch.__version__.partition("+")[0], "numba", numba.__version__, "layer", numba.threading_layer())
print(f"threads of torch: set 1, before the loop {before}, after it {after}")
print("in a thread started later", *elsewhere)
print("after torch.set_num_threads(1) and another loop", again)
if (before, after, *elsewhere, again) != (1, 3, 1, 1):
    sys.exit("changed: numba's first parallel loop leaves torch's number of threads alone, or does something else")
PY
NUMBA_THREADING_LAYER=omp NUMBA_NUM_THREADS=3 "$work/venv/bin/python" "$work/find.py"
