#!/usr/bin/env bash
# numba 0.68.1: with parallel=True `a[1:] = a[:-1]` fills an array with its first element; in-place sums are wrong without, too.
#
# Functions of one line, each of an array and itself moved by one or turned around, are run by numpy 2.4.6, compiled, and
# compiled with parallel=True on one thread, on the array 1 2 3 4 5 6, and on six frames of two pixels.
#
# Output seen (CPython 3.11.7):
#     numba 0.68.1, numpy 2.4.6
#     line                  numpy              compiled           parallel
#     a[1:] = a[:-1]        1 1 2 3 4 5        1 1 2 3 4 5        1 1 1 1 1 1
#     a[1:, :] = a[:-1, :]  1 1 2 3 4 5        1 1 2 3 4 5        1 1 1 1 1 1
#     a[:] = a[::-1]        6 5 4 3 2 1        6 5 4 3 2 1        6 5 4 4 5 6
#     a[1:] += a[:-1]       1 3 5 7 9 11       1 3 6 10 15 21     1 3 5 7 9 15
#     a[1:] -= a[:-1]       1 1 1 1 1 1        1 1 2 2 3 3        1 1 1 1 1 5
#     a += a[::-1]          7 7 7 7 7 7        7 7 7 11 12 13     7 7 7 11 12 13
#     a[1:] = a[:-1] + 0    1 1 2 3 4 5        1 1 2 3 4 5        1 1 2 3 4 5
#
# Why it surprises: making room for the newest frame of a history, turning a row, or taking differences in place is a line of
# numpy, which reads all before it writes. Compiled, a plain assignment does so, too, and a test of the function
# passes; adding parallel=True, which is asked for speed, makes it a loop that reads what it has just written, so that
# every frame of the history is the oldest one. Operators in place do that with or without it, and differently. With more
# threads it depends on how they share the array. No warning is given. Where the right side is computed (`a[:-1] + 0`),
# or copied by hand, all is well.
# Known upstream in part: numba/numba issue 230, open since 2013, is about plain assignments, which were mended for code that
# is not parallel; about parallel=True and the operators nothing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check numba==0.68.1 llvmlite==0.50.0 numpy==2.4.6
cat >"$work/find.py" <<'PY'
import sys
import warnings

import numba
import numpy as np

warnings.filterwarnings("ignore", category=numba.errors.NumbaPerformanceWarning)


def later(a):
    a[1:] = a[:-1]


def frames_later(a):
    a[1:, :] = a[:-1, :]


def turned(a):
    a[:] = a[::-1]


def added(a):
    a[1:] += a[:-1]


def less(a):
    a[1:] -= a[:-1]


def folded(a):
    a += a[::-1]


def computed(a):
    a[1:] = a[:-1] + 0


FUNCTIONS = {
    "a[1:] = a[:-1]": later,
    "a[1:, :] = a[:-1, :]": frames_later,
    "a[:] = a[::-1]": turned,
    "a[1:] += a[:-1]": added,
    "a[1:] -= a[:-1]": less,
    "a += a[::-1]": folded,
    "a[1:] = a[:-1] + 0": computed,
}


def run(function):
    """What the function leaves of 1 to 6; of frames of two pixels their first one."""
    array = np.arange(1.0, 7.0)
    if function.__name__ == "frames_later":
        array = np.repeat(array[:, None], 2, axis=1)
    function(array)
    return [int(value) for value in array.reshape(6, -1)[:, 0]]


numba.set_num_threads(1)
print(f"numba {numba.__version__}, numpy {np.__version__}")
print(f"{'line':21} {'numpy':18} {'compiled':18} parallel")
results = {}
for line, function in FUNCTIONS.items():
    compiled, parallel = numba.njit(function), numba.njit(parallel=True)(function)
    compiled.__name__ = parallel.__name__ = function.__name__
    results[line] = [run(kind) for kind in (function, compiled, parallel)]
    print(f"{line:21}", *(f"{' '.join(map(str, values)):18}" for values in results[line]))
by_numpy = [values[0] for values in results.values()]
if (
    by_numpy
    != [[1, 1, 2, 3, 4, 5]] * 2 + [[6, 5, 4, 3, 2, 1], [1, 3, 5, 7, 9, 11], [1] * 6, [7] * 6, [1, 1, 2, 3, 4, 5]]
    or results["a[1:] = a[:-1]"][1:] != [[1, 1, 2, 3, 4, 5], [1] * 6]
    or results["a[1:, :] = a[:-1, :]"][1:] != [[1, 1, 2, 3, 4, 5], [1] * 6]
    or results["a[:] = a[::-1]"][2] == by_numpy[2]
    or results["a[1:] += a[:-1]"][1] != [1, 3, 6, 10, 15, 21]
    or results["a[1:] -= a[:-1]"][1] == by_numpy[4]
    or results["a += a[::-1]"][1] == by_numpy[5]
    or results["a[1:] = a[:-1] + 0"][2] != by_numpy[6]
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
