"""Runs the network: one device, and the batcher between coroutines and its thread."""
