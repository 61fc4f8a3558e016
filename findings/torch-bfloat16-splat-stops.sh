#!/usr/bin/env bash
# torch 2.13.0: in bfloat16 index_add stops counting at 256 and turns grey to white; scatter_add adds the same right.
#
# So many ones are added into one place, by index_add, by index_put with accumulate=True, by scatter_add, and by index_add of
# rows of four; in bfloat16 and float16. Then noise of 512x512, whose mean is 0.5, is made smaller as forward warps do it
# ("splatting"): each pixel is added to the place that it falls on, and the sums are divided by how many fell there.
#
# Output seen (CPython 3.11.7):
#     torch 2.13.0
#     ones                   200    256    300   1000   4096
#     bfloat16 index_add     200    256    256    256    256
#     bfloat16 index_put     200    256    256    256    256
#     bfloat16 scatter_add   200    256    300   1000   4096
#     bfloat16 rows          200    256    300   1000   4096
#     float16  index_add     200    256    300   1000   2048
#     float16  index_put     200    256    300   1000   2048
#     float16  scatter_add   200    256    300   1000   4096
#     float16  rows          200    256    300   1000   4096
#     mean of noise that is made smaller in bfloat16
#     to                  64x64  32x32  16x16    8x8
#     index_add           0.500  0.500  1.000  1.000
#     scatter_add         0.500  0.500  0.500  0.500
#
# Why it surprises: each of the three is described as adding, none warns, and sum() and scatter_add of these types add in
# float32 and round once. index_add and index_put add in the type itself, where 256 + 1 is 256 again: beyond that
# number of pixels both a place's sum and its count stand still, and their quotient goes to 1. By twenty times smaller all is
# well, so that the warp of a common motion passes, and where much falls on little, as in a zoom or behind an edge, it
# is white. Whether index_add stops depends even on the shape, as that of rows does not. Autocast leaves the type to what
# comes in. Adding in float32, or by scatter_add, is the way around.
# Known upstream in part: pytorch/pytorch issue 139242 is about the count of index_reduce, and pull request 103427 gave scatter_add
# its float32.
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

COUNTS = 200, 256, 300, 1000, 4096
WAYS = {
    "index_add": lambda target, places, values: target.index_add(0, places, values),
    "index_put": lambda target, places, values: target.index_put((places,), values, accumulate=True),
    "scatter_add": lambda target, places, values: target.scatter_add(0, places, values),
}


def rows(target, places, values):
    """Four columns of `values` at once, of which the first is given back."""
    return target[:, None].repeat(1, 4).index_add(0, places, values[:, None].repeat(1, 4))[:, 0]


def ones(way, count, dtype):
    """So many ones added into one place."""
    places = torch.zeros(count, dtype=torch.int64)
    return int(way(torch.zeros(1, dtype=dtype), places, torch.ones(count, dtype=dtype)).item())


def smaller(way, picture, side):
    """The mean of `picture` once its pixels are added to side x side places and divided by their number."""
    places = torch.arange(len(picture)) * side // len(picture)
    places = (side * places[:, None] + places).flatten()
    sums, hits = (
        way(torch.zeros(side * side, dtype=picture.dtype), places, values.flatten())
        for values in (picture, torch.ones_like(picture))
    )
    return (sums / hits).float().mean().item()


print("torch", torch.__version__.split("+")[0])
print("ones                ", *(f"{count:6}" for count in COUNTS))
counts = {}
for dtype in torch.bfloat16, torch.float16:
    for name, way in {**WAYS, "rows": rows}.items():
        kind = str(dtype).removeprefix("torch.")
        counts[kind, name] = [ones(way, count, dtype) for count in COUNTS]
        print(f"{kind:8} {name:11}", *(f"{count:6}" for count in counts[kind, name]))
print("mean of noise that is made smaller in bfloat16")
sides, means = (64, 32, 16, 8), {}
print("to                 ", *(f"{f'{side}x{side}':>6}" for side in sides))
noise = torch.rand(512, 512, generator=torch.Generator().manual_seed(0)).bfloat16()
for name in "index_add", "scatter_add":
    means[name] = [smaller(WAYS[name], noise, side) for side in sides]
    print(f"{name:19}", *(f"{mean:6.3f}" for mean in means[name]))
if not (
    all(counts["bfloat16", name] == [200, 256, 256, 256, 256] for name in ("index_add", "index_put"))
    and all(counts["float16", name][-1] == 2048 for name in ("index_add", "index_put"))
    and all(counts[kind, name] == list(COUNTS) for kind in ("bfloat16", "float16") for name in ("scatter_add", "rows"))
    and means["index_add"][2:] == [1, 1]
    and all(abs(mean - 0.5) < 0.01 for mean in means["index_add"][:2] + means["scatter_add"])
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
