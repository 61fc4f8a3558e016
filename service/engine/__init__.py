"""Runs the network: one device, and the batcher between coroutines and its thread."""

# Before any module of this room loads torch: it says how long OpenMP's threads may spin.
import model  # noqa: F401
