"""Values to msgpack and back: what waits in Redis between a front end and a worker. Nothing here can run code.

A frame stays the file it came as (`Frame.source`); what came as pixels travels as pixels. Encoding pixels afresh would
cost the front end more time than Redis saves: 180 ms for a PNG of 720p against 3 ms for its raw bytes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no annotations and no stubs
import numpy as np
from numpy.typing import NDArray

from service.core import codec
from service.core.codec import ImageFormat, Limits
from service.core.job import Failure
from service.core.ports import ModelInfo
from service.core.types import (
    Frame,
    Options,
    PredictResult,
    Priority,
    Quality,
    Route,
    RouteChoice,
    RoutePolicy,
    Step,
    Timings,
    route_text,
)

#: Goes up when a reader of the last form would misunderstand the next.
VERSION = 1
#: A worker reads what a front end has checked; these only keep a damaged length from allocating the machine's memory.
TRUSTED = Limits(max_bytes=2**32, max_pixels=2**32, min_side=1, max_side=2**20, max_aspect=float(2**20))


class Unreadable(ValueError):
    """Not written by this version of the service."""


def frame_bytes(frame: Frame) -> bytes:
    """The file it came as, or its pixels."""
    if frame.source is not None:
        return _pack({"file": frame.source})
    return _pack({"h": frame.height, "w": frame.width, "rgb": frame.pixels.data.cast("B")})


def read_frame(data: bytes) -> Frame:
    """The frame; Unreadable, or the codec's own errors for a file."""
    value = _unpack(data)
    if "file" in value:
        return codec.decode(value["file"], TRUSTED, "frame")
    return codec.from_raw(value["rgb"], value["h"], value["w"], TRUSTED, "frame")


def task_bytes(options: Options, priority: Priority, client: str, traceparent: str | None) -> bytes:
    """What to do with the frames."""
    route = options.route
    return _pack(
        {
            "route": [route.policy.value, route.seed, route.blocks, _text(route.bits)],
            "steps": options.steps,
            "scale": options.scale,
            "quality": options.quality.value,
            "maps": options.maps,
            "priority": int(priority),
            "client": client,
            "trace": traceparent,
        }
    )


def read_task(data: bytes) -> tuple[Options, Priority, str, str | None]:
    """Options, priority, client and traceparent."""
    v = _unpack(data)
    policy, seed, blocks, bits = v["route"]
    options = Options(
        route=RouteChoice(RoutePolicy(policy), seed, blocks, _route(bits)),
        steps=v["steps"],
        scale=v["scale"],
        quality=Quality(v["quality"]),
        maps=v["maps"],
    )
    return options, Priority(v["priority"]), v["client"], v["trace"]


def result_bytes(result: PredictResult, *, compress: bool) -> bytes:
    """An answer. `compress` makes PNGs of its frames: right for what is kept, too slow for what is awaited."""
    steps = [
        {
            "frame": _pack({"file": codec.encode(s.frame, ImageFormat.PNG)}) if compress else frame_bytes(s.frame),
            "route": _text(s.route),
            "flops": s.flops,
            "flow": _array(s.flow),
            "mask": _array(s.mask),
        }
        for s in result.steps
    ]
    t = result.timings
    return _pack(
        {
            "id": result.id,
            "steps": steps,
            "model": result.model_version,
            "timings": [t.queue, t.route, t.blocks],
            "batch": result.batch_size,
            "seed": result.seed,
            "shortened": result.shortened,
        }
    )


def read_result(data: bytes, request: str) -> PredictResult:
    """The answer, under the id that `request` was given here."""
    v = _unpack(data)
    return PredictResult(
        id=request,
        steps=tuple(
            Step(
                frame=read_frame(s["frame"]),
                route=_route(s["route"]) or (),
                flops=s["flops"],
                flow=_read_array(s["flow"]),
                mask=_read_array(s["mask"]),
            )
            for s in v["steps"]
        ),
        model_version=v["model"],
        timings=Timings(*v["timings"]),
        batch_size=v["batch"],
        seed=v["seed"],
        shortened=v["shortened"],
    )


def failure_bytes(failure: Failure) -> bytes:
    """An error as a value."""
    return _pack(asdict(failure))


def read_failure(data: bytes) -> Failure:
    """An error as a value."""
    v = _unpack(data)
    return Failure(v["code"], v["message"], v["field"], v["reason"], v["retry_after"])


def info_bytes(model: ModelInfo, seconds_per_megapixel: float | None) -> bytes:
    """What a worker says of itself: its model, and the seconds of one step on a million padded pixels."""
    return _pack({"model": asdict(model), "cost": seconds_per_megapixel})


def read_info(data: bytes) -> tuple[ModelInfo, float | None]:
    """What a worker said of itself."""
    v = _unpack(data)
    return ModelInfo(**v["model"]), v["cost"]


def _pack(value: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb({"v": VERSION, **value}, use_bin_type=True)
    return packed


def _unpack(data: bytes) -> dict[str, Any]:
    try:
        value = msgpack.unpackb(data, raw=False, max_ext_len=0)
    except (msgpack.UnpackException, ValueError) as error:
        raise Unreadable("not msgpack") from error
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise Unreadable("written by another version of the service")
    return value


def _text(bits: Route | None) -> str | None:
    return None if bits is None else route_text(bits)


def _route(text: str | None) -> Route | None:
    return None if text is None else tuple(bit == "1" for bit in text)


def _array(array: NDArray[np.float32] | None) -> dict[str, Any] | None:
    if array is None:
        return None
    return {"shape": list(array.shape), "f4": np.ascontiguousarray(array, "<f4").tobytes()}


def _read_array(value: dict[str, Any] | None) -> NDArray[np.float32] | None:
    if value is None:
        return None
    array: NDArray[np.float32] = np.frombuffer(value["f4"], "<f4").reshape(value["shape"])
    return array
