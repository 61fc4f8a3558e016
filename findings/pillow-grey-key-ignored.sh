#!/usr/bin/env bash
# Pillow 13.0.0: the transparent grey of a PNG of 2 or 4 bits is opaque, and another grey is transparent once it is saved.
#
# A grey PNG of each depth holds every level once. Its tRNS chunk says that white is transparent (PNG, third edition,
# 11.3.2.1: pixels "matching the specified grey sample value"). Each file is opened, converted to RGBA, and saved again.
#
# Output seen (CPython 3.11.7, x86-64):
#     Pillow 13.0.0
#     bits  key  transparent levels  after open and save
#        1    1  [255]               [255]
#        2    3  []                  [3]
#        4   15  []                  [15]
#        8  255  [255]               [255]
#
# Why it surprises: pixels of 2 and 4 bits are widened to 0..255 as they are read, the key beside them stays what the
# file says, so that it can match no pixel but black: what the file makes transparent is opaque, without a word. 1 bit is
# converted, 8 need nothing. Saved again, the key is written beside pixels of 8 bits and now names a grey that was opaque
# (here none has it, in a photo some do). A program that refuses or flattens transparent pictures lets these pass;
# optimisers write them, as they make black and white logos smallest.
# Saving of the key for modes 1 and I came with python-pillow/Pillow#3744; no report of this was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 numpy==2.2.6
cat >"$work/find.py" <<'PY'
import io
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def ramp(bits):
    """A PNG of one row with every level; the highest is transparent."""
    levels, text = 2**bits, ""
    for level in range(levels):
        text += f"{level:0{bits}b}"
    text = text.ljust(-(-len(text) // 8) * 8, "0")
    row = b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    head = struct.pack(">IIBBBBB", levels, 1, bits, 0, 0, 0, 0)
    key = chunk(b"tRNS", struct.pack(">H", levels - 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + key + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


def transparent(data):
    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[0]
    return [int(pixel[0]) for pixel in rgba if pixel[3] == 0]


def saved_key(data):
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "PNG")
    at = file.getvalue().index(b"tRNS") + 4
    (key,) = struct.unpack_from(">H", file.getvalue(), at)
    return [255 if Image.open(file).mode == "1" and key else key]


print("Pillow", PIL.__version__)
print("bits  key  transparent levels  after open and save")
seen = {}
for bits in (1, 2, 4, 8):
    seen[bits] = transparent(ramp(bits)), saved_key(ramp(bits))
    print(f"{bits:4}  {2**bits - 1:3}  {str(seen[bits][0]):19} {seen[bits][1]}")
if not (seen[2] == ([], [3]) and seen[4] == ([], [15]) and seen[8][0] == [255]):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
