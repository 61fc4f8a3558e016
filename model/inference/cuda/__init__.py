"""The GPU path: Triton loops and CUDA graphs."""
