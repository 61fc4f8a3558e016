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
    """Who asks. `ends` is the transport's own deadline on the service's clock, seconds."""

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


async def infer(state: AppState, request: InferRequest, caller: Caller) -> InferResponse:
    """Return the answer to all items, or raise the error of the first that failed, naming it."""
    began = state.clock()
    use = state.usage.models.get(request.model)
    try:
        batch = oip_requests.parse(request, max_batch=state.settings.max_batch, max_steps=state.settings.max_steps)
        expiry = _ends(state, batch, caller, began)
        values, reading = await _all(state, batch, caller, expiry)
        encode_start = state.clock()
        outputs = oip_requests.tensors(batch, [value.result for value in values], [value.pictures for value in values])
    except ServiceError:
        if use is not None:
            use.failed(state.clock() - began)
        raise
    end = state.clock()
    assert use is not None  # parse knows only models that are counted
    use.answered(
        [value.result for value in values],
        InferTimings(end - began, reading, end - encode_start),
        round(time.time() * 1000),
    )
    parameters: dict[str, str | bool] = {"weights": values[0].result.model_version}
    seeds = [value.result.seed for value in values]
    if seeds[0] is not None:
        parameters["seed"] = ",".join(map(str, seeds))
    slowest = max(values, key=lambda value: sum(seconds for _, seconds in value.took))
    return InferResponse(request.model, VERSION, request.id, outputs, parameters, slowest)


def _ends(state: AppState, batch: Parsed, caller: Caller, began: float) -> float:
    settings = state.settings
    asked_ms = None if batch.timeout_us is None else batch.timeout_us / 1000
    if asked_ms is None and caller.ends is not None:
        return min(caller.ends, began + settings.max_deadline_ms / 1000)
    expiry = deadline.resolve(
        began,
        asked_ms,
        default_ms=settings.default_deadline_ms,
        max_ms=settings.max_deadline_ms,
        field="parameters.timeout",
    )
    return expiry if caller.ends is None else min(expiry, caller.ends)


async def _all(state: AppState, batch: Parsed, caller: Caller, expiry: float) -> tuple[list[EncodedPrediction], float]:
    """Predict every item; return the predictions, and the seconds that reading the slowest item's frames took."""
    alone = len(batch.items) == 1
    tasks = [
        # awaited: by gather below
        asyncio.create_task(_one(state, batch, item, caller, expiry, None if alone else n))
        for n, item in enumerate(batch.items)
    ]
    try:
        results = await asyncio.gather(*tasks)
    finally:
        # The first failure, or the caller's leaving, withdraws the others.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An error's traceback holds this frame, and it the tasks with their errors: a cycle that would keep the frames.
        tasks.clear()
        del task
    return [value for value, _ in results], max(seconds for _, seconds in results)


async def _one(
    state: AppState, batch: Parsed, item: InferItem, caller: Caller, expiry: float, index: int | None
) -> tuple[EncodedPrediction, float]:
    began = state.clock()
    names = ("FRAMES", "FRAMES") if item.shape else ("FRAME0", "FRAME1")
    try:
        holding = caller.holding
        previous = await decoded(state, Picture(item.previous, item.shape), f"inputs.{names[0]}", holding)
        current = await decoded(state, Picture(item.current, item.shape), f"inputs.{names[1]}", holding)
        read_seconds = state.clock() - began
        request = PredictRequest(
            id=caller.request_id if index is None else f"{caller.request_id}.{index}",
            previous=previous,
            current=current,
            options=seeded(item.options),
            deadline=expiry,
            client=caller.client,
            traceparent=caller.traceparent,
        )
        if holding is not None:
            reserve_answer(holding, request)
        result = await state.engine.predict(request)
        return await encoded(state, result, batch.format, batch.image_quality, decode=read_seconds), read_seconds
    except ServiceError as error:
        if index is None:
            raise
        # A copy: the engine may have raised one error for several requests.
        item_error = copy.copy(error)
        item_error.message = f"item {index}: {error.message}"
        item_error.args = (item_error.message,)
        try:
            raise item_error from error
        finally:
            del item_error  # as above


def ready_parameters(answer: InferResponse, *, final: bool) -> InferResponse:
    """Mark as its request's only and last response, where a streaming client asked for the mark."""
    return replace(answer, parameters={**answer.parameters, "triton_final_response": True}) if final else answer
