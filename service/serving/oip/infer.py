"""Runs one Open Inference Protocol request: each item of its batch is a request of its own in our queue.

So the items of one caller share batches with everybody's. Knows no wire; `service.serving.oip.requests` says what
tensors mean.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

from service.app_state import AppState
from service.core import deadline
from service.core.errors import ServiceError
from service.serving import prediction
from service.serving.oip import requests as oip_requests
from service.serving.oip.requests import InferBatch, InferItem, InferRequest
from service.serving.oip.served_versions import ServedVersions
from service.serving.oip.statistics import InferTimings
from service.serving.oip.tensors import Tensor
from service.serving.prediction import Caller, EncodedPrediction, Picture, PicturePair


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
    """Return the answer to all items, or raise the error of the first that failed, naming it.

    The caller's deadline is its transport's, and may be shortened by the request's own.
    """
    began = state.clock()
    statistics = state.infer_statistics.models.get(request.model)
    try:
        prediction.check_ready(state.engine)
        versions, settings = ServedVersions.of(state), state.settings
        version = versions.option(request.version)
        batch = oip_requests.parse(request, max_batch=settings.max_batch, max_steps=settings.max_steps, version=version)
        values = await _predict(state, batch, replace(caller, deadline=_deadline(state, batch, caller, began)))
        encode_start = state.clock()
        outputs = oip_requests.tensors(batch, [value.result for value in values], [value.pictures for value in values])
    except ServiceError:
        if statistics is not None:
            statistics.count_failure(state.clock() - began)
        raise
    end = state.clock()
    assert statistics is not None  # parse knows only models that are counted
    decode_seconds = max(dict(value.stages)["decode"] for value in values)
    timings = InferTimings(end - began, decode_seconds, end - encode_start)
    statistics.count_answer([value.result for value in values], timings, round(time.time() * 1000))
    weights = [value.result.model_version for value in values]
    # Of one version but for a moment in which another becomes the default, or where one has a share.
    parameters: dict[str, str | bool] = {"weights": ",".join(weights if len(set(weights)) > 1 else weights[:1])}
    seeds = [value.result.seed for value in values]
    if seeds[0] is not None:
        parameters["seed"] = ",".join(map(str, seeds))
    slowest = max(values, key=lambda value: sum(seconds for _, seconds in value.stages))
    return InferResponse(
        request.model, versions.display_name(request.version, weights[0]), request.id, outputs, parameters, slowest
    )


def _deadline(state: AppState, batch: InferBatch, caller: Caller, began: float) -> float:
    settings = state.settings
    asked_ms = None if batch.timeout_us is None else batch.timeout_us / 1000
    if asked_ms is None and caller.deadline is not None:
        return min(caller.deadline, began + settings.max_deadline_ms / 1000)
    expiry = deadline.resolve(
        began,
        asked_ms,
        default_ms=settings.default_deadline_ms,
        max_ms=settings.max_deadline_ms,
        field="parameters.timeout",
    )
    return expiry if caller.deadline is None else min(expiry, caller.deadline)


async def _predict(state: AppState, batch: InferBatch, caller: Caller) -> list[EncodedPrediction]:
    """Predict every item. The first failure, or the caller's leaving, withdraws the others."""
    if len(batch.items) == 1:
        return [await _predict_item(state, batch, batch.items[0], caller)]
    return await prediction.together(
        _predict_numbered(state, batch, item, replace(caller, request_id=f"{caller.request_id}.{n}"), n)
        for n, item in enumerate(batch.items)
    )


async def _predict_item(state: AppState, batch: InferBatch, item: InferItem, caller: Caller) -> EncodedPrediction:
    names = ("inputs.FRAMES", "inputs.FRAMES") if item.shape else ("inputs.FRAME0", "inputs.FRAME1")
    pair = PicturePair(Picture(item.previous, item.shape), Picture(item.current, item.shape), names)
    return await prediction.predict(state, pair, item.options, batch.format, batch.image_quality, caller)


async def _predict_numbered(
    state: AppState, batch: InferBatch, item: InferItem, caller: Caller, index: int
) -> EncodedPrediction:
    """Predict one item of several; an error's message says of which."""
    try:
        return await _predict_item(state, batch, item, caller)
    except ServiceError as error:
        # A copy: the engine may have raised one error for several requests.
        item_error = copy.copy(error)
        item_error.message = f"item {index}: {error.message}"
        item_error.args = (item_error.message,)
        try:
            raise item_error from error
        finally:
            del item_error  # its traceback holds this frame: a cycle that would keep the pictures


def ready_parameters(answer: InferResponse, *, final: bool) -> InferResponse:
    """Mark as its request's only and last response, where a streaming client asked for the mark."""
    return replace(answer, parameters={**answer.parameters, "triton_final_response": True}) if final else answer
