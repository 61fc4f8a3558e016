"""Cuts a request into the parts of its pair that move, and puts their answers into the current frame: the rest is that.

For mixtures of motions. Knows no head: what predicts a part is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from model.mixing import byte_pictures
from model.motion.field import Floats, Pixels
from service.core.types import BLOCKS, Frame, Method, PredictRequest, Step

if TYPE_CHECKING:
    from model.mixing.moving import Box

#: How wide the edge of a part is that must stand still, pixels, and by how many levels it may seem to change: where
#: there is nothing to be seen, a motion may be found that is none.
EDGE, MOST_LEVELS = 4, 32
#: A part takes as long as so many pixels more: each has its calls.
CALL_PIXELS = 8192
#: The part of a frame's time in which its motion is looked for.
FINDING = 0.25
_NO_BLOCK = (False,) * BLOCKS


class MotionLeaves(Exception):
    """Something moves out of a part of the frame, so that the whole one must be predicted."""


def priced_pixels(box: Box, mixed: Box) -> float:
    """Return the pixels of a frame that takes as long as the motion of `box` and the mixture of a part of it."""
    return FINDING * box.area + (1 - FINDING) * mixed.area + CALL_PIXELS


def crop(request: PredictRequest, box: Box) -> PredictRequest:
    """Return a request for a part of the frames."""
    previous, current = (
        Frame(np.ascontiguousarray(box.of(frame.pixels))) for frame in (request.previous, request.current)
    )
    return replace(request, previous=previous, current=current)


def check_still_around(box: Box, request: PredictRequest, part: PredictRequest, flow: Floats) -> None:
    """Raise MotionLeaves unless the motion of a part, hxwx2 in pixels of the next frame, ends within it.

    It does where its edges, unless they are the frame's, show along the motion what they show now, in all frames that
    are asked for.
    """
    height, width = part.current.height, part.current.width
    none: Any = None
    furthest = np.float32(max(part.options.times, default=part.options.steps))
    edges = (
        (box.top > 0, slice(0, EDGE), slice(0, width)),
        (box.bottom < request.current.height, slice(height - EDGE, height), slice(0, width)),
        (box.left > 0, slice(0, height), slice(0, EDGE)),
        (box.right < request.current.width, slice(0, height), slice(width - EDGE, width)),
    )
    for is_inside, rows, columns in edges:
        if is_inside:
            places = flow[rows, columns] * furthest
            places[..., 0] += np.arange(columns.start, columns.stop, dtype=np.float32)
            places[..., 1] += np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
            pixels, still = part.current.pixels, part.current.pixels[rows, columns]
            next_edge = cv2.remap(pixels, places, none, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            if cv2.absdiff(next_edge, still).max() > MOST_LEVELS:
                raise MotionLeaves


def forward_flow(
    receive: Callable[[Floats], None], box: Box, request: PredictRequest, part: PredictRequest, flow: Floats
) -> None:
    """Hand a part's flow hxwx2 on to `receive`. Raises as `check_still_around`."""
    check_still_around(box, request, part, flow)
    receive(flow)


def assemble(request: PredictRequest, boxes: Sequence[Box], parts: Sequence[Sequence[Step]]) -> tuple[Step, ...]:
    """Put the frames of all parts, as many as every part has, into the current frame; none that move: it is repeated.

    What stands still has no flow and full confidence, and counts as the candidate "still".
    """
    if not boxes:
        step = _assemble_step(request, (), ())
        times = request.options.times
        return tuple(replace(step, t=t) for t in times) if times else (step,) * request.options.steps
    return tuple(_assemble_step(request, boxes, steps) for steps in zip(*parts, strict=False))


def assemble_flow(request: PredictRequest, boxes: Sequence[Box], flows: Sequence[Floats]) -> Floats:
    """Return the flow HxWx2 of the whole frame from those of its parts; nothing elsewhere."""
    whole = np.zeros((request.current.height, request.current.width, 2), np.float32)
    for box, flow in zip(boxes, flows, strict=True):
        box.of(whole)[:] = flow
    return whole


def _assemble_step(request: PredictRequest, boxes: Sequence[Box], steps: Sequence[Step]) -> Step:
    height, width = request.current.height, request.current.width
    flow = np.zeros((height, width, 4), np.float32) if request.options.maps else None
    confidence = np.ones((height, width), np.float32) if request.options.maps else None
    shares: dict[str, float] = {}
    for box, step in zip(boxes, steps, strict=True):
        if flow is not None and confidence is not None:
            box.of(flow)[:], box.of(confidence)[:] = step.flow, step.confidence
        for name, share in step.shares.items():
            shares[name] = shares.get(name, 0.0) + share * box.area / (height * width)
    shares["still"] = shares.get("still", 0.0) + 1 - sum(box.area for box in boxes) / (height * width)

    def put_together(out: Pixels) -> None:
        out[:] = request.current.pixels
        for box, step in zip(boxes, steps, strict=True):
            box.of(out)[:] = step.frame.pixels

    return Step(
        frame=Frame(byte_pictures.filled((height, width, 3), put_together)) if boxes else request.current,
        route=_NO_BLOCK,
        flops=sum(step.flops for step in steps),
        flow=flow,
        confidence=confidence,
        method=Method.FLOW,
        shares=shares,
        t=steps[0].t if steps else None,
    )
