#!/usr/bin/env bash
# tritonclient 2.73.0: of a BYTES tensor made of numpy's own byte strings the client sends their source text.
#
# The first bytes of a picture are put into an array of objects: as `bytes`, and as `numpy.bytes_`, which is what one gets
# by taking an element out of an array of byte strings. Both are serialised as InferInput.set_data_from_numpy does it, and
# read again with the client's own reader.
#
# Output seen (CPython 3.11.7):
#     tritonclient 2.73.0
#     the two arrays are equal: True
#     bytes        4 bytes: b'\xff\xd8\xff\xe0'
#     numpy.bytes_ 19 bytes: b"b'\\xff\\xd8\\xff\\xe0'"
#     None         4 bytes: b'None'
#
# Why it surprises: `numpy.bytes_` is a subclass of `bytes`, and the two arrays are equal. But the client asks whether an
# element's type is exactly `bytes` and sends anything else as str(element): the text b'...', with quotes and escapes.
# Nothing fails at the client; the server gets a picture that no decoder reads, or a text that is tokenised with its
# quotes. An element None travels as the word "None". Putting elements of one array into another, as when requests are
# batched by hand, makes such arrays; an array whose own type is byte strings is sent right.
# That numbers are sent as their text is wanted (triton-inference-server/server pull request 2573); no report about
# `numpy.bytes_` was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check \
    tritonclient==2.73.0 numpy==2.4.6 ml-dtypes==0.5.4
cat >"$work/find.py" <<'PY'
import importlib.metadata
import sys

import numpy as np
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

PICTURE = b"\xff\xd8\xff\xe0"


def objects(element):
    return np.array([element], dtype=object)


def sent(element):
    (received,) = deserialize_bytes_tensor(serialize_byte_tensor(objects(element)).item())
    return received


(taken,) = np.array([PICTURE])
print("tritonclient", importlib.metadata.version("tritonclient"))
print("the two arrays are equal:", bool((objects(PICTURE) == objects(taken)).all()))
results = {}
for name, element in {"bytes": PICTURE, "numpy.bytes_": taken, "None": None}.items():
    results[name] = sent(element)
    print(f"{name:12} {len(results[name])} bytes: {results[name]}")
if results != {"bytes": PICTURE, "numpy.bytes_": str(PICTURE).encode(), "None": b"None"} or taken != PICTURE:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
