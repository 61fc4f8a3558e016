"""Bounds the pixels that all clips being made hold together. Knows no transport; sizes come from a clip's first frame.

A budget of its own: a clip takes minutes, and its frames would refuse the predictions that others wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.core.errors import QueueFull
from service.serving.byte_budget import ByteBudget
from service.serving.video.clip import ClipSource
from service.serving.video.clip_frames import ConversionParams
from service.serving.video.clip_places import RETRY_S

#: Frames that a decoder holds, and an encoder: its own, and floats while colours are converted. In frames of RGB.
DECODING = ENCODING = 6
#: Seconds between two looks for room, of a job.
POLL_S = 0.5


def clip_bytes(source: ClipSource, params: ConversionParams, steps: int) -> int:
    """Return the most bytes of pixels that a clip holds while it is made; `steps`: frames of one prediction."""
    frame = 3 * source.info.width * source.info.height
    width, height = params.size(source)
    return frame * (params.frames_held(steps) + DECODING) + 3 * width * height * ENCODING


class ClipMemory:
    """`limit` bytes for the pixels of all clips being made; one that is alone is always taken."""

    def __init__(self, limit: int) -> None:
        self.budget = ByteBudget(limit)

    @asynccontextmanager
    async def hold(self, nbytes: int, *, patient: bool) -> AsyncIterator[None]:
        """Hold `nbytes`. Without room: wait for it, holding none, if `patient`; else raise QueueFull."""
        with self.budget.open() as holding:
            while True:
                try:
                    holding.grow(nbytes)
                    break
                except QueueFull:
                    if not patient:
                        why = f"clips being made hold {self.budget.held} of {self.budget.limit} bytes of frames; "
                        raise QueueFull(f"{why}this one needs {nbytes}", retry_after=RETRY_S) from None
                await asyncio.sleep(POLL_S)
            yield
