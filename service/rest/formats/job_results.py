"""What a job predicted, as an answer: one item like a prediction; all of them one after the other, never at once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from service.core.errors import Conflict
from service.core.types import PredictResult
from service.imaging.codec_pool import Codecs
from service.rest.formats import multipart, response
from service.rest.formats.params import PredictParams
from service.rest.formats.response import ResponseFormat
from service.rest.transport import context
from service.rest.transport.pieces import MadeAsSent
from service.serving.answer_size import result_nbytes
from service.serving.jobs.job import Jobs, JobState, JobView
from service.serving.prediction import encode_steps


async def one(
    jobs: Jobs, view: JobView, item: int, request: Request, params: PredictParams, codecs: Codecs
) -> Response:
    """Answer with one item, as /v1/predict would have answered it."""
    request_context = context.of(request)
    result = await jobs.result(view.id, request_context.client, item)
    form = _form(request, params, len(result.steps))
    request_context.holding.grow(2 * result_nbytes(result))
    files = await encode_steps(codecs, result, form.format, form.quality)
    return response.build_files(result, files, form, response.prediction_headers(result), request_context.holding)


async def every(jobs: Jobs, view: JobView, request: Request, params: PredictParams, codecs: Codecs) -> Response:
    """Answer with all items, joined: their steps in one row. Each is fetched when its turn comes."""
    request_context = context.of(request)
    if view.failure is not None:
        raise view.failure.error()
    if view.state is not JobState.DONE:
        raise Conflict(f"the job is {view.state}; there is no such result")
    first = await jobs.result(view.id, request_context.client, 0)
    steps = len(first.steps)
    form = _form(request, params, view.items * steps)
    # One item at a time, and its encoding; the one before may still be on its way out.
    request_context.holding.grow(3 * result_nbytes(first))
    headers = {**response.weights(first), **response.shape_header(first, form, view.items * steps), "Vary": "Accept"}
    items = _Items(jobs, view, request_context.client)
    if form.media_type == response.JSON:
        return MadeAsSent(_document(items, first, form, codecs), headers, response.JSON)
    if form.media_type == response.MIXED:
        boundary = multipart.new_boundary()
        pieces = _mixed(items, first, form, codecs, boundary)
        return MadeAsSent(pieces, headers, multipart.mixed_type(boundary))
    return MadeAsSent(_plain(items, first, form, codecs), headers, form.media_type)


def headers_only(view: JobView) -> Response:
    """Answer HEAD: whether there is a result to fetch. Makes none, so none counts as fetched."""
    if view.failure is not None:
        raise view.failure.error()
    if view.state is not JobState.DONE:
        raise Conflict(f"the job is {view.state}; there is no such result")
    answer = Response(headers={"Vary": "Accept", "Accept-Ranges": "none"})
    del answer.headers["content-length"]
    return answer


class _Items:
    """A job's results in order, each fetched when it is asked for."""

    def __init__(self, jobs: Jobs, view: JobView, client: str) -> None:
        self._jobs, self._view, self._client = jobs, view, client

    async def after(self, first: PredictResult) -> AsyncGenerator[PredictResult, None]:
        """Yield `first`, which is there already, then the others."""
        yield first
        del first
        for item in range(1, self._view.items):
            yield await self._jobs.result(self._view.id, self._client, item)


async def _plain(
    items: _Items, first: PredictResult, form: ResponseFormat, codecs: Codecs
) -> AsyncGenerator[bytes, None]:
    async for result in items.after(first):
        for step in result.steps:
            yield await codecs.encode(step.frame, form.format, form.quality)


async def _mixed(
    items: _Items, first: PredictResult, form: ResponseFormat, codecs: Codecs, boundary: str
) -> AsyncGenerator[bytes, None]:
    number = 1
    async for result in items.after(first):
        for step in result.steps:
            alone = replace(result, steps=(step,))
            files = await encode_steps(codecs, alone, form.format, form.quality)
            for part in response.parts(alone, files, form, number):
                yield multipart.piece(boundary, *part)
            number += 1
    yield multipart.last(boundary)


async def _document(
    items: _Items, first: PredictResult, form: ResponseFormat, codecs: Codecs
) -> AsyncGenerator[bytes, None]:
    """Yield one JSON object; what is known only at the end stands at the end."""
    head = response.head(first)
    del head["flops"]
    yield json.dumps(head).encode()[:-1] + b', "frames": ['
    flops, number = 0, 1
    async for result in items.after(first):
        flops += result.flops
        for step in result.steps:
            file = await codecs.encode(step.frame, form.format, form.quality)
            yield (b"" if number == 1 else b", ") + response.step_text(step, file, form, number)
            number += 1
    yield b'], "flops": %d}' % flops


def _form(request: Request, params: PredictParams, steps: int) -> ResponseFormat:
    return response.choose(
        ", ".join(request.headers.getlist("accept")),
        replace(params, options=replace(params.options, steps=steps, times=())),
    )
