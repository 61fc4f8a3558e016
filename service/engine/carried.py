"""Frames of moments t: one prediction's motion carried on, as a request's `times` ask. No queue, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from model.inference import carry as on_device
from model.inference import pixels
from model.motion import carry
from model.motion.field import Floats
from service.core import scene_cut
from service.core.types import BLOCKS, Frame, Method, PredictRequest, Step
from service.engine.rollout import StepOutput

#: Says for each moment its index and its frame: what is not yet wanted is not yet carried.
Moments = Iterator[tuple[int, Step]]

_NO_BLOCK = (False,) * BLOCKS


def repeats(request: PredictRequest, method: Method) -> tuple[Step, ...]:
    """Return the current frame for each moment where the pair shows two scenes; nothing where a motion leads on.

    Without `times` nothing is returned either: a rollout shows what is predicted, whatever that is.
    """
    if not request.options.times:
        return ()
    if not scene_cut.is_cut(scene_cut.thumbnail(request.previous), scene_cut.thumbnail(request.current)):
        return ()
    height, width = request.current.height, request.current.width
    maps, is_network = request.options.maps, method is Method.DMVFN
    nothing = np.zeros((height, width), np.float32) if maps else None
    step = Step(
        frame=request.current,
        route=_NO_BLOCK,
        flops=0,
        flow=np.zeros((height, width, 4), np.float32) if maps else None,
        mask=nothing if is_network else None,
        confidence=None if is_network else nothing,
        method=method,
        shares={} if is_network else {"still": 1.0},
        is_cut=True,
    )
    return tuple(replace(step, t=t) for t in request.options.times)


def collect(
    first: Step, request: PredictRequest, carry_to: Callable[[Sequence[float]], Moments], keep: Callable[[], bool]
) -> tuple[Step, ...]:
    """Return the frames of all moments, in the order asked for; none once nobody waits any more (`keep`).

    `first` is the frame that was predicted, which is that of t = 1; `carry_to` carries its motion to all others. The
    first frame of the answer has the route and the FLOPs of what was run, for all come from it.
    """
    times = request.options.times
    steps = [first] * len(times)
    others = [index for index, t in enumerate(times) if t != 1]
    for count, (number, step) in enumerate(carry_to([times[index] for index in others]), 1):
        steps[others[number]] = step
        if count < len(others) and not keep():
            return ()
    frames = [replace(step, route=_NO_BLOCK, flops=0, t=t) for step, t in zip(steps, times, strict=True)]
    return (replace(frames[0], route=first.route, flops=first.flops), *frames[1:])


def by_network(
    request: PredictRequest,
    output: StepOutput,
    pair: tuple[Tensor, Tensor],
    times: Sequence[float],
    *,
    bgr: bool,
) -> Moments:
    """Carry the network's flows and mask. `pair`: both frames 3xHxW in 0..1 on the device, padded.

    Where that is no CPU all is done there: flows would take longer to come here than to be followed.
    """
    maps = request.options.maps
    if output.flow.device.type != "cpu":
        height, width = output.frame.shape[-2:]
        previous, current = (frame[None, :, :height, :width] for frame in pair)
        for answer in on_device.carried(previous, current, output.flow[None], output.mask[None, None].float(), times):
            picture = pixels.to_pictures(answer.frame[0], bgr=bgr).cpu().numpy()
            flow = answer.flow[0].permute(1, 2, 0).contiguous().cpu().numpy() if maps else None
            mask = answer.weight[0, 0].contiguous().cpu().numpy() if maps else None
            yield answer.place, Step(Frame(picture), _NO_BLOCK, 0, flow, mask)
        return
    flows = output.flow.permute(1, 2, 0).float().contiguous().numpy()
    to_previous, to_current = (np.ascontiguousarray(flows[..., side : side + 2]) for side in (0, 2))
    weight = output.mask.float().contiguous().numpy()
    for motion in carry.maps(to_previous, to_current, weight, times):
        frame = carry.blended(request.previous.pixels, request.current.pixels, motion, times[motion.place])
        flow, mask = (motion.flow, motion.values) if maps else (None, None)
        yield motion.place, Step(Frame(frame), _NO_BLOCK, 0, flow, mask)


def by_mixture(request: PredictRequest, first: Step, frame: Floats, flow: Floats, times: Sequence[float]) -> Moments:
    """Carry a mixture's main flow HxWx2, and what its `frame` HxWx3 in 0..1 has beside it; `first` is its step."""
    frames = carry.corrected(request.current.pixels, flow, frame, times)
    if first.confidence is None:
        for index, picture in frames:
            yield index, replace(first, frame=Frame(picture))
        return
    motions = carry.maps(flow * np.float32(2), flow, first.confidence, times)
    for (index, picture), motion in zip(frames, motions, strict=True):
        yield index, replace(first, frame=Frame(picture), flow=motion.flow, confidence=motion.values)
