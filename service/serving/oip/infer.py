"""Runs one Open Inference Protocol request: each item of its batch is a request of its own in our queue.

So the items of one caller share batches with everybody's. Knows no wire; `service.serving.oip.requests` says what
tensors mean.
"""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass, replace

from service.app_state import AppState
from service.core import deadline
from service.core.errors import ServiceError
from service.core.types import PredictRequest
from service.serving.byte_budget import ByteHolding, reserve_answer
from service.serving.oip import requests as oip_requests
from service.serving.oip.models import VERSION
from service.serving.oip.requests import InferItem, InferRequest, Parsed
from service.serving.oip.statistics import InferTimings
from service.serving.oip.tensors import Tensor
from service.serving.streaming.live_stream import EncodedPrediction, Picture, decoded, encoded, seeded


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `ends` is the transport's own deadline on the parts' clock, seconds."""

    request_id: str
    client: str = ""
    ends: float | None = None
    traceparent: str | None = None
    holding: ByteHolding | None = None  #: what its frames and its answer are counted in


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """The answer. `parameters` tell which weights it came from, and each item's seed where routes were drawn."""

    model: str
    version: str
    id: str
    outputs: list[Tensor]
    parameters: dict[str, str | bool]
    slowest: EncodedPrediction  #: of its items: whose stages tell where the time went


async def infer(parts: AppState, request: InferRequest, caller: Caller) -> InferResponse:
    """Return the answer to all items, or raise the error of the first that failed, naming it."""
    began = parts.clock()
    use = parts.usage.models.get(request.model)
    try:
        parsed = oip_requests.parse(request, max_batch=parts.settings.max_batch, max_steps=parts.settings.max_steps)
        ends = _ends(parts, parsed, caller, began)
        values, reading = await _all(parts, parsed, caller, ends)
        written = parts.clock()
        outputs = oip_requests.tensors(parsed, [value.result for value in values], [value.pictures for value in values])
    except ServiceError:
        if use is not None:
            use.failed(parts.clock() - began)
        raise
    done = parts.clock()
    assert use is not None  # parse knows only models that are counted
    use.answered(
        [value.result for value in values],
        InferTimings(done - began, reading, done - written),
        round(time.time() * 1000),
    )
    told: dict[str, str | bool] = {"weights": values[0].result.model_version}
    seeds = [value.result.seed for value in values]
    if seeds[0] is not None:
        told["seed"] = ",".join(map(str, seeds))
    slowest = max(values, key=lambda value: sum(seconds for _, seconds in value.took))
    return InferResponse(request.model, VERSION, request.id, outputs, told, slowest)


def _ends(parts: AppState, parsed: Parsed, caller: Caller, began: float) -> float:
    settings = parts.settings
    asked_ms = None if parsed.timeout_us is None else parsed.timeout_us / 1000
    if asked_ms is None and caller.ends is not None:
        return min(caller.ends, began + settings.max_deadline_ms / 1000)
    ends = deadline.resolve(
        began,
        asked_ms,
        default_ms=settings.default_deadline_ms,
        max_ms=settings.max_deadline_ms,
        field="parameters.timeout",
    )
    return ends if caller.ends is None else min(ends, caller.ends)


async def _all(parts: AppState, parsed: Parsed, caller: Caller, ends: float) -> tuple[list[EncodedPrediction], float]:
    """Predict every item; return the predictions, and the seconds that reading the slowest item's frames took."""
    alone = len(parsed.items) == 1
    tasks = [
        # awaited: by gather below
        asyncio.create_task(_one(parts, parsed, item, caller, ends, None if alone else n))
        for n, item in enumerate(parsed.items)
    ]
    try:
        done = await asyncio.gather(*tasks)
    finally:
        # The first failure, or the caller's leaving, withdraws the others.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An error's traceback holds this frame, and it the tasks with their errors: a cycle that would keep the frames.
        tasks.clear()
        del task
    return [value for value, _ in done], max(seconds for _, seconds in done)


async def _one(
    parts: AppState, parsed: Parsed, item: InferItem, caller: Caller, ends: float, index: int | None
) -> tuple[EncodedPrediction, float]:
    began = parts.clock()
    names = ("FRAMES", "FRAMES") if item.shape else ("FRAME0", "FRAME1")
    try:
        holding = caller.holding
        previous = await decoded(parts, Picture(item.previous, item.shape), f"inputs.{names[0]}", holding)
        current = await decoded(parts, Picture(item.current, item.shape), f"inputs.{names[1]}", holding)
        read = parts.clock() - began
        request = PredictRequest(
            id=caller.request_id if index is None else f"{caller.request_id}.{index}",
            previous=previous,
            current=current,
            options=seeded(item.options),
            deadline=ends,
            client=caller.client,
            traceparent=caller.traceparent,
        )
        if holding is not None:
            reserve_answer(holding, request)
        result = await parts.engine.predict(request)
        return await encoded(parts, result, parsed.format, parsed.image_quality, decode=read), read
    except ServiceError as error:
        if index is None:
            raise
        # A copy: the engine may have raised one error for several requests.
        named = copy.copy(error)
        named.message = f"item {index}: {error.message}"
        named.args = (named.message,)
        try:
            raise named from error
        finally:
            del named  # as above


def ready_parameters(answer: InferResponse, *, final: bool) -> InferResponse:
    """Mark as its request's only and last response, where a streaming client asked for the mark."""
    return replace(answer, parameters={**answer.parameters, "triton_final_response": True}) if final else answer
