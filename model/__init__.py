"""DMVFN: two consecutive frames in, the next frame out. Torch only, tensors in, tensors out."""

import os

# Read once, when torch is loaded. Torch and numba bring an OpenMP pool each, and a pool that waits for work keeps its
# cores busy for milliseconds, which the other pool and the neighbours need: with two threads on two busy cores a frame
# took nine times as long as with this (docs/operations.md). Some 20 us, enough for the gaps between a pool's own loops.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
