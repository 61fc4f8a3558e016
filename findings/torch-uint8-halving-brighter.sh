#!/usr/bin/env bash
# torch 2.13.0: a picture of bytes becomes half a level brighter each time interpolate halves it.
#
# Noise of bytes is halved five times by torch.nn.functional.interpolate (bilinear), as bytes and as floats, and its mean
# is compared, with and without antialias. Then pictures of squares of four pixels are halved, whose mean is known.
#
# Output seen (CPython 3.11.7, x86-64):
#     torch 2.13.0
#     mean of bytes less mean of floats, halved 1 to 5 times
#     bilinear             0.50  1.00  1.50  2.00  2.51
#     with antialias       0.13  0.25  0.37  0.49  0.60
#     pixels             mean    as bytes
#     100 100 100 100    100.00  100
#     100 100 100 101    100.25  101
#     100 100 101 101    100.50  101
#     101 101 101 101    101.00  101
#
# Why it surprises: four pixels of which one is a level brighter give the brighter level, at a quarter of the way. Rows and
# columns are done one after the other, and each rounds its halves up; halving makes halves all the time. A result a level
# off is what one expects of bytes, in either direction; but this is always upwards, so means, thresholds, and the deeper levels
# of a pyramid are shifted, and a network that was trained on floats sees brighter pictures. `antialias=True` has a quarter
# of it at this ratio. Interpolating floats and rounding once is exact.
# pytorch/pytorch issue 113024 calls a difference of one level a rounding error that is fine; nothing was found about its
# direction.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0
cat >"$work/find.py" <<'PY'
import sys
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch
from torch.nn.functional import interpolate


def half(picture, antialias=False):
    return interpolate(picture, scale_factor=0.5, mode="bilinear", align_corners=False, antialias=antialias)


def shifts(antialias):
    as_bytes = torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    as_floats, differences = as_bytes.float(), []
    for _ in range(5):
        as_bytes, as_floats = half(as_bytes, antialias), half(as_floats, antialias)
        differences.append(as_bytes.float().mean().item() - as_floats.mean().item())
    return differences


print("torch", torch.__version__.split("+")[0])
print("mean of bytes less mean of floats, halved 1 to 5 times")
plain, smooth = shifts(False), shifts(True)
for name, differences in ("bilinear", plain), ("with antialias", smooth):
    print(f"{name:18}" + "".join(f"{difference:6.2f}" for difference in differences).rjust(31))
print("pixels             mean    as bytes")
halved = {}
for pixels in (100, 100, 100, 100), (100, 100, 100, 101), (100, 100, 101, 101), (101, 101, 101, 101):
    square = torch.tensor(pixels, dtype=torch.uint8).view(1, 1, 2, 2).repeat(1, 1, 32, 32)
    (halved[pixels],) = half(square).unique().tolist()
    print(*pixels, f"   {sum(pixels) / 4:.2f}  {halved[pixels]}")
if not (
    all(abs(difference - 0.5 * times) < 0.1 for times, difference in enumerate(plain, 1))
    and 0.4 < smooth[4] < 0.8
    and list(halved.values()) == [100, 101, 101, 101]
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
