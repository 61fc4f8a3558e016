"""Converts values to msgpack and back: tasks, frames, answers and announcements in Redis. Nothing here runs code.

Releases mix while a fleet is updated, so a reader takes what it knows: fields it does not know are ignored, optional
ones that are missing get their defaults, a greater version is read as far as it goes. A task is the exception: an
option that is ignored is another prediction than was asked for, so a worker that does not know all of it must leave
it to one that does (`UnreadableEntry`). What may be ignored even in a task goes into its map "notes": so the method of
the network, by which releases that know no methods predict anyway.

A frame stays the file it came as (`Frame.source`); what came as pixels travels as pixels. Encoding pixels afresh would
cost more time than Redis saves: a PNG of 720p takes 4 ms to write and 9 to read, its raw bytes 3 ms to carry.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no annotations and no stubs

from service.core.errors import ServiceError
from service.core.timings import Timings
from service.core.types import (
    Frame,
    Method,
    Options,
    PredictResult,
    Priority,
    Quality,
    Route,
    RouteChoice,
    RoutePolicy,
    Step,
    route_text,
)
from service.distributed.broker import field_values
from service.imaging import codec
from service.imaging.codec import FrameLimits, ImageFormat
from service.serving.jobs.job import Failure

#: Goes up when a worker of the last form would misunderstand the next form's tasks; it then leaves them alone.
VERSION = 1
#: What this release knows of a task. A front end that asks for more needs workers that know more.
TASK_FIELDS = frozenset(
    {
        "v",
        "route",
        "steps",
        "scale",
        "quality",
        "maps",
        "method",
        "version",
        "t",
        "priority",
        "client",
        "trace",
        "notes",
    }
)
#: Characters of a text in an error: what a library says of tensors may be endless, and a value that a server does not
#: take would be sent again and again.
LONGEST_TEXT = 8000
#: A worker reads what a front end has checked; these only keep a damaged length from allocating the machine's memory.
TRUSTED = FrameLimits(max_bytes=2**32, max_pixels=2**32, min_side=1, max_side=2**20, max_aspect=float(2**20))


class Note(enum.StrEnum):
    """What a task may say beside its options; a worker that does not know of it does without."""

    TRIAL = "trial"  #: it is run though it is predicted to be late
    RESULTS_ELSEWHERE = "elsewhere"  #: whoever asked reads large results from the object store


class UnreadableEntry(ValueError):
    """Bytes that this release cannot read; the message says what it does not know."""


def dialect(versions: Iterable[str] = (), store: str = "") -> str:
    """Name what a worker with these versions and this store can do: two of equal dialects can do the same tasks."""
    words = [*sorted(TASK_FIELDS), *RoutePolicy, *Quality, *Method, *(str(int(priority)) for priority in Priority)]
    words += [*sorted(versions), *filter(None, [store])]
    return f"{VERSION}:{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}"


def frame_bytes(frame: Frame) -> bytes:
    """Serialise a frame: the file it came as, or its pixels."""
    if frame.source is not None:
        return pack({"file": frame.source})
    return pack({"h": frame.height, "w": frame.width, "rgb": frame.pixels.data.cast("B")})


def is_file(data: bytes) -> bool:
    """Tell whether a frame is a file, which takes time to be decoded; pixels are read as they are."""
    return b"\xa4file" in data[:16]


def read_frame(data: bytes) -> Frame:
    """Read a frame; UnreadableEntry, or the codec's own errors for a file."""
    value = unpack(data)
    if "at" in value:
        raise UnreadableEntry("its frames are in a store that this worker does not have (DMVFN_OBJECT_STORE)")
    with reading("a frame"):
        if "file" in value:
            return codec.decode(value["file"], TRUSTED, "frame")
        return codec.from_raw(value["rgb"], value["h"], value["w"], TRUSTED, "frame")


def task_bytes(
    options: Options, priority: Priority, client: str, traceparent: str | None, *, notes: Collection[Note] = ()
) -> bytes:
    """Serialise a task: the options, priority, client and trace of a prediction, and what is noted beside them."""
    route = options.route
    fields = _method_fields(options)
    if notes:
        fields["notes"] = {**fields.get("notes", {}), **{note.value: True for note in notes}}
    return pack(
        {
            "route": [route.policy.value, route.seed, route.blocks, _text(route.bits)],
            "steps": options.steps,
            "scale": options.scale,
            "quality": options.quality.value,
            "maps": options.maps,
            "priority": int(priority),
            "client": client,
            "trace": traceparent,
            **fields,
            **({} if options.version is None else {"version": options.version}),
            # Absent where it is not asked for, so that the last release reads all that it knows.
            **({"t": list(options.times)} if options.times else {}),
        }
    )


def _method_fields(options: Options) -> dict[str, Any]:
    """Return what a task says of its method: nothing where its other options say as much, so that all read it."""
    if options.method is None or (options.method is Method.DMVFN and options.names_network):
        return {}
    if options.method is Method.DMVFN:
        return {"notes": {"method": options.method.value}}
    return {"method": options.method.value}


def has_note(task: bytes, note: Note) -> bool:
    """Tell whether something is noted beside a task's options."""
    notes = unpack(task).get("notes")
    return isinstance(notes, dict) and notes.get(note.value) is True


def read_task(data: bytes) -> tuple[Options, Priority, str, str | None]:
    """Read options, priority, client and traceparent; UnreadableEntry where any of it is not known here."""
    v = unpack(data)
    if v["v"] > VERSION:
        raise UnreadableEntry(f"a task of version {v['v']}; this release knows {VERSION}")
    if unknown := sorted(map(str, v.keys() - TASK_FIELDS)):
        raise UnreadableEntry(f"a task with an option that this release does not know: {', '.join(unknown)[:100]}")
    with reading("a task"):
        policy, seed, blocks, bits = v.get("route", (RoutePolicy.AUTO.value, None, None, None))
        steps, scale, maps = v.get("steps", 1), v.get("scale", 1.0), v.get("maps", False)
        if type(steps) is not int or type(scale) not in (int, float) or type(maps) is not bool:
            raise TypeError("steps, scale or maps is of another type")
        options = Options(
            route=RouteChoice(RoutePolicy(policy), seed, blocks, _route(bits)),
            steps=steps,
            scale=float(scale),
            quality=Quality(v.get("quality", Quality.EXACT)),
            maps=maps,
            method=_method(v),
            version=text_or_none(v.get("version")),
            times=field_values.times(v.get("t")),
        )
        priority = Priority(v.get("priority", Priority.LIVE))
        return options, priority, text_or_empty(v.get("client")), text_or_none(v.get("trace"))


def _method(task: dict[str, Any]) -> Method | None:
    notes = task.get("notes")
    name = task.get("method", notes.get("method") if isinstance(notes, dict) else None)
    return None if name is None else Method(name)


def result_bytes(result: PredictResult, *, compress: bool) -> bytes:
    """Serialise an answer. `compress` makes PNGs of its frames: right for what is kept, too slow for awaited calls."""
    steps = [
        {
            "frame": pack({"file": codec.encode(s.frame, ImageFormat.PNG)}) if compress else frame_bytes(s.frame),
            "route": _text(s.route),
            "flops": s.flops,
            "flow": field_values.array(s.flow),
            "mask": field_values.array(s.mask),
            **_mixture_fields(s),
            **({} if s.t is None else {"t": s.t, "cut": s.is_cut}),
        }
        for s in result.steps
    ]
    t = result.timings
    mixture_times = [t.motion, t.mixing] if t.motion or t.mixing else []
    return pack(
        {
            "id": result.id,
            "steps": steps,
            "model": result.model_version,
            "timings": [t.queue, t.route, t.blocks, *mixture_times],
            "batch": result.batch_size,
            "seed": result.seed,
            "shortened": result.shortened,
        }
    )


def read_result(data: bytes, request: str) -> PredictResult:
    """Read an answer, under the id that `request` was given here; UnreadableEntry for any other form."""
    v = unpack(data)
    with reading("an answer", ServiceError):
        times = [number(seconds, 0.0) for seconds in [*v.get("timings", ()), *[0.0] * 5][:5]]
        return PredictResult(
            id=request,
            steps=tuple(_read_step(step) for step in v["steps"]),
            model_version=text_or_empty(v.get("model")),
            timings=Timings(*times),
            batch_size=int(v.get("batch") or 1),
            seed=None if v.get("seed") is None else int(v["seed"]),
            shortened=bool(v.get("shortened", False)),
        )


def _mixture_fields(step: Step) -> dict[str, Any]:
    if step.method is Method.DMVFN:
        return {}
    return {"method": step.method.value, "shares": dict(step.shares), "confidence": field_values.array(step.confidence)}


def _read_step(step: dict[str, Any]) -> Step:
    return Step(
        frame=read_frame(step["frame"]),
        route=_route(step.get("route")) or (),
        flops=int(step.get("flops") or 0),
        flow=field_values.read_array(step.get("flow")),
        mask=field_values.read_array(step.get("mask")),
        method=Method(step.get("method", Method.DMVFN)),
        shares={str(name): float(share) for name, share in (step.get("shares") or {}).items()},
        confidence=field_values.read_array(step.get("confidence")),
        t=None if step.get("t") is None else float(step["t"]),
        is_cut=bool(step.get("cut", False)),
    )


def failure_bytes(failure: Failure) -> bytes:
    """Serialise an error. Of a text so long that a server might not take it, its beginning."""
    fields = asdict(failure)
    return pack({name: text[:LONGEST_TEXT] if isinstance(text, str) else text for name, text in fields.items()})


def read_failure(data: bytes) -> Failure:
    """Read an error; UnreadableEntry only where there is none. A code that is not known here means "internal"."""
    v = unpack(data)
    retry_after = v.get("retry_after")
    return Failure(
        code=text_or_empty(v.get("code")) or "internal",
        message=text_or_empty(v.get("message"))
        or "the request failed; its worker said nothing more that is known here",
        field=text_or_none(v.get("field")),
        reason=text_or_none(v.get("reason")),
        retry_after=None if retry_after is None else number(retry_after, None),
    )


def pack(value: dict[str, Any]) -> bytes:
    """Serialise a map, with the version of its form."""
    data: bytes = msgpack.packb({"v": VERSION, **value}, use_bin_type=True)
    return data


def unpack(data: bytes) -> dict[str, Any]:
    """Read a map with its version; UnreadableEntry for anything else, whatever its bytes."""
    try:
        value = msgpack.unpackb(data, raw=False, max_ext_len=0)
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
        raise UnreadableEntry("not msgpack") from error
    if not isinstance(value, dict) or type(value.get("v")) is not int or value["v"] < VERSION:
        raise UnreadableEntry("not written by this service")
    return value


@contextmanager
def reading(what: str, *also: type[Exception]) -> Iterator[None]:
    """Raise UnreadableEntry for whatever a value of another form makes its reader raise, and for `also`."""
    forms = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
    kinds: tuple[type[Exception], ...] = (*forms, *also)
    try:
        yield
    except kinds as error:
        if isinstance(error, UnreadableEntry):
            raise
        raise UnreadableEntry(f"{what} of another form: {type(error).__name__}: {error}"[:200]) from error


def text_or_empty(value: object) -> str:
    """Return `value` where it is text, else ""."""
    return value if isinstance(value, str) else ""


def text_or_none(value: object) -> str | None:
    """Return `value` where it is text, else None."""
    return value if isinstance(value, str) else None


def number(value: object, default: Any) -> Any:
    """Return `value` as a float where it is a finite number, else `default`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    try:
        return float(value) if math.isfinite(value) else default
    except OverflowError:
        return default


def _text(bits: Route | None) -> str | None:
    return None if bits is None else route_text(bits)


def _route(text: str | None) -> Route | None:
    return None if text is None else tuple(bit == "1" for bit in text)
