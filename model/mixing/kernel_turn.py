"""Whose turn it is to run compiled loops: one caller at a time, since they share the processor's cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model.inference.cpu import compiler

_turn = threading.Lock()


@contextmanager
def kernel_turn(threads: int = 0) -> Iterator[None]:
    """Wait for the turn, and share loops among so many threads meanwhile; 0: among as many as torch."""
    with _turn:
        compiler.use_threads(threads or torch.get_num_threads())
        yield
