"""How many threads mix a small frame: all of them, or one where sharing so little work gains nothing.

A head has some thirty operations of a tenth of a millisecond or less on a small frame, and each wakes every thread.
Which is quicker depends on the processor and its neighbours, so it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

#: Height and width up to whose number of pixels a frame is small.
SMALL = (256, 448)
#: How many times as quick all threads must be, since what they take is taken from everything else on the machine.
LEAST_GAIN = 1.25
#: Turns that each way is timed.
TURNS = 4


class MixingThreads:
    """The choice for small frames; all threads until it is made. For one calling thread."""

    def __init__(self) -> None:
        self.shares_small = True  #: whether small frames are mixed by all threads

    def choose(self, mix_small: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> None:
        """Time `mix_small`, which mixes a small frame, by one thread and by all in turn, and keep to what is better."""
        if torch.get_num_threads() == 1:
            return
        seconds = {True: float("inf"), False: float("inf")}
        for _ in range(TURNS + 1):
            for shares in seconds:
                self.shares_small = shares
                with self.of(SMALL[0] * SMALL[1]):
                    start = clock()
                    mix_small()
                    seconds[shares] = min(seconds[shares], clock() - start)
        self.shares_small = seconds[True] * LEAST_GAIN < seconds[False]

    @contextmanager
    def of(self, pixels: float) -> Iterator[None]:
        """Have torch, and the loops that take its number, use as many threads as mixing `pixels` is worth."""
        threads = torch.get_num_threads()
        if self.shares_small or threads == 1 or pixels > SMALL[0] * SMALL[1]:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
