"""A clip's record in Redis: what is asked for as msgpack, and what is told of it.

Releases mix while a fleet is updated. An order must be known whole, as a task must: an option that is passed over is
another clip than was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from service.core.errors import ServiceError
from service.core.types import Priority
from service.distributed.broker import scripts
from service.distributed.broker.keys import whole
from service.distributed.broker.serialization import (
    UnreadableEntry,
    pack,
    read_failure,
    read_result,
    read_task,
    reading,
    result_bytes,
    task_bytes,
    unpack,
)
from service.serving.jobs.clip_jobs import ClipView, NewClip
from service.serving.jobs.clip_queue import KeptPrediction
from service.serving.jobs.job import Failure, JobState
from service.serving.video.clip import SoundMode
from service.serving.video.clip_frames import ConversionParams
from service.serving.video.conversion import ClipOrder
from service.serving.video.output_frames import VideoParams
from service.serving.video.plan import Ahead, Every, FillLost, FramePlan, FrameRanges
from service.serving.video.retimed_frames import RetimingParams

#: What stands in a clip's record where a call names the front end that waits for it.
MARK = b"clip"
#: Goes up when a maker of the last form would misunderstand the next form's orders.
ORDER_VERSION = 1
#: In the place of a plan's kind: frames at other times.
RETIMING = "retiming"
#: What this release knows of an order.
ORDER_FIELDS = frozenset({"v", "plan", "compare", "cuts", "task", "suffix", "type", "sound"})


def order_bytes(order: ClipOrder, client: str) -> bytes:
    """Serialise what is asked for."""
    params = order.params
    return pack(
        {
            "plan": _making_fields(params),
            "compare": isinstance(params, VideoParams) and params.compare,
            "cuts": params.scene_cuts,
            "task": task_bytes(order.options, Priority.BACKGROUND, client, None),
            "suffix": order.suffix,
            "type": order.media_type,
            "sound": order.sound.value,
        }
    )


def read_order(data: bytes) -> ClipOrder:
    """Read an order; UnreadableEntry where any of it is not known here."""
    value = unpack(data)
    if unknown := sorted(map(str, value.keys() - ORDER_FIELDS)):
        raise UnreadableEntry(f"a clip with an option that this release does not know: {', '.join(unknown)[:100]}")
    if value["v"] > ORDER_VERSION:
        raise UnreadableEntry(f"an order of version {value['v']}; this release knows {ORDER_VERSION}")
    with reading("an order", ServiceError):
        options, *_ = read_task(value["task"])
        params = _read_making(value["plan"], compare=bool(value["compare"]), scene_cuts=bool(value["cuts"]))
        return ClipOrder(params, options, str(value["suffix"]), str(value["type"]), SoundMode(value["sound"]))


def _making_fields(params: ConversionParams) -> list[Any]:
    if isinstance(params, RetimingParams):
        return [RETIMING, None if params.fps is None else str(params.fps), params.conceal]
    return _plan_fields(params.plan)


def _read_making(fields: list[Any], *, compare: bool, scene_cuts: bool) -> ConversionParams:
    if fields[0] != RETIMING:
        return VideoParams(_read_plan(fields), compare, scene_cuts)
    _, fps, conceal = fields
    return RetimingParams(None if fps is None else Fraction(fps), bool(conceal), scene_cuts)


def _plan_fields(plan: FramePlan) -> list[Any]:
    if isinstance(plan, Ahead):
        return ["ahead", plan.steps]
    if isinstance(plan, Every):
        return ["every", plan.nth]
    assert isinstance(plan, FillLost)
    assert isinstance(plan.indexes, FrameRanges)
    return ["lost", list(plan.indexes.firsts), list(plan.indexes.lasts)]


def _read_plan(fields: list[Any]) -> FramePlan:
    kind, *values = fields
    if kind == "ahead":
        return Ahead(int(values[0]))
    if kind == "every":
        return Every(int(values[0]))
    if kind == "lost":
        return FillLost(FrameRanges(tuple(map(int, values[0])), tuple(map(int, values[1]))))
    raise UnreadableEntry(f"a plan that this release does not know: {str(kind)[:40]}")


def range_bytes(predictions: Sequence[KeptPrediction]) -> bytes:
    """Serialise a range of predicted frames, losslessly."""
    items = [[digest, result_bytes(result, compress=True)] for digest, result in predictions]
    return pack({"items": items})


def read_range(data: bytes) -> list[KeptPrediction]:
    """Read a range; UnreadableEntry for any other form."""
    value = unpack(data)
    with reading("a range"):
        return [(bytes(digest), read_result(result, "kept")) for digest, result in value["items"]]


def notes_bytes(notes: tuple[str, ...]) -> bytes:
    """Serialise what is left out or changed."""
    return pack({"notes": list(notes)})


def read_clip(clip: str, fields: dict[bytes, bytes]) -> NewClip:
    """Read a clip from its record; UnreadableEntry where its order is not known here."""
    order = read_order(fields[b"order"])
    name = text(fields, b"name")
    return NewClip(
        id=clip,
        client=text(fields, b"c"),
        holder=text(fields, b"h"),
        order=order,
        fingerprint=text(fields, b"fp"),
        frames=whole(fields.get(b"n")) or None,
        webhook=text(fields, b"hook") or None,
        name=name.removesuffix(order.suffix),
    )


def clip_view(clip: str, fields: dict[bytes, bytes]) -> ClipView | None:
    """Read a clip's hash as its view; None where it is no clip's, or part of it is gone."""
    if not fields.keys() >= scripts.RECORD or fields[b"f"] != MARK:
        return None
    finished_at, failure = fields.get(b"end"), fields.get(b"e")
    return ClipView(
        id=clip,
        state=_state(fields),
        items=whole(fields.get(b"n")) or None,
        done=whole(fields.get(b"done")),
        created=whole(fields.get(b"at")) / 1000,
        media_type=text(fields, b"type"),
        file_name=text(fields, b"name"),
        finished=None if finished_at is None else whole(finished_at) / 1000,
        nbytes=whole(fields.get(b"size")),
        notes=_notes(fields.get(b"notes")),
        failure=_failure(failure),
    )


def cancelled(view: ClipView) -> ClipView:
    """Return the last view of a clip that was withdrawn."""
    return replace(view, state=JobState.CANCELLED, finished=time.time())


def text(fields: dict[bytes, bytes], name: bytes) -> str:
    """Return a field as text; "" where there is none."""
    return fields.get(name, b"").decode(errors="replace")


def _notes(data: bytes | None) -> tuple[str, ...]:
    try:
        value = unpack(data) if data else {}
    except UnreadableEntry:
        return ()
    notes = value.get("notes")
    return tuple(map(str, notes)) if isinstance(notes, list) else ()


def _state(fields: dict[bytes, bytes]) -> JobState:
    """Read a clip's state; of one that is not known here only whether it has ended is certain."""
    try:
        return JobState(text(fields, b"s"))
    except ValueError:
        return JobState.FAILED if b"end" in fields else JobState.RUNNING


def _failure(data: bytes | None) -> Failure | None:
    try:
        return None if data is None else read_failure(data)
    except UnreadableEntry:
        return Failure("internal", "the clip failed; why, another version of the service has written")
