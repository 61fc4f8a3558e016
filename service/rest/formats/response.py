"""Predictions as HTTP answers: one picture, raw pixels, several parts, or JSON. Chosen by `Accept` before any work."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.core import moments
from service.core.errors import InvalidRequest, NotAcceptable
from service.core.types import PredictResult, Step, route_text
from service.imaging.codec import ImageFormat
from service.rest.formats import multipart, negotiation
from service.rest.formats.params import Maps, PredictParams
from service.rest.transport.pieces import PiecedResponse
from service.serving.byte_budget import ByteHolding
from service.serving.prediction import EncodedPrediction, routes_text, shares_text

MIXED, JSON = "multipart/mixed", "application/json"
#: What single pictures can be, ours first.
PICTURES = (ImageFormat.PNG, ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.PPM)
_BY_TYPE = {format.media_type: format for format in ImageFormat}
_PICTURE_TYPES = tuple(format.media_type for format in PICTURES)


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """How to answer: `media_type` of the whole, `format` of each frame in it."""

    media_type: str
    format: ImageFormat
    quality: int | None
    maps: Maps


def choose(header: str | None, params: PredictParams) -> ResponseFormat:
    """Choose the form that `Accept` likes best. Raises NotAcceptable, listing those there are, if it allows none.

    Several steps and maps do not fit into one picture. The pictures inside a JSON or multipart answer are of the best
    picture type that Accept names, PNG where it names none.
    """
    if params.maps is not Maps.NONE:
        offers: tuple[str, ...] = (MIXED, JSON)
    elif params.options.frames > 1:
        offers = (MIXED, JSON, ImageFormat.RAW.media_type)
    else:
        offers = (*_PICTURE_TYPES, ImageFormat.RAW.media_type, JSON, MIXED)
    media_type = negotiation.choose(header, offers)
    if media_type is None:
        raise NotAcceptable(f"this can be answered as {', '.join(offers)}", field="Accept")
    inner = media_type if media_type in _BY_TYPE else negotiation.choose(header, _PICTURE_TYPES)
    format = _BY_TYPE[inner or ImageFormat.PNG.media_type]
    if params.image_quality is not None and not format.lossy:
        raise InvalidRequest(
            f"image_quality means nothing for {format.media_type}; accept image/jpeg or image/webp",
            field="image_quality",
        )
    return ResponseFormat(media_type, format, params.image_quality, params.maps)


def build(value: EncodedPrediction, form: ResponseFormat, holding: ByteHolding) -> PiecedResponse:
    """Build the answer to a prediction. `holding` as of `build_files`."""
    headers = {
        **prediction_headers(value.result),
        "X-Dmvfn-Batch-Size": str(value.result.batch_size),
        "Server-Timing": ", ".join([f"{name};dur={seconds * 1000:.3f}" for name, seconds in value.stages]),
    }
    if value.result.shortened:
        headers["X-Dmvfn-Shortened"] = "1"
    return build_files(value.result, value.pictures, form, headers, holding)


def prediction_headers(result: PredictResult) -> dict[str, str]:
    """Return the headers of every kind of answer; one route for each step, FLOPs of all."""
    headers = {"X-Dmvfn-Method": result.method, "X-Dmvfn-Route": routes_text(result)}
    if result.shares:
        headers["X-Dmvfn-Shares"] = shares_text(result)
    if result.steps[0].t is not None:
        headers["X-Dmvfn-T"] = ",".join(map(moments.text, result.times))
    if result.is_cut:
        headers["X-Dmvfn-Cut"] = "1"
    return {**headers, "X-Dmvfn-Flops": str(result.flops), **weights(result)}


def header_text(text: str) -> str:
    """Write any text so that a header can carry it: visible ASCII as it is, the rest escaped as Python escapes it."""
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")


def weights(result: PredictResult) -> dict[str, str]:
    """Return the headers that are the same for all items of a job: the weights' version, and the seed if one drew."""
    headers = {"X-Dmvfn-Model": header_text(result.model_version)}
    if result.seed is not None:
        headers["X-Dmvfn-Seed"] = str(result.seed)
    return headers


def build_files(
    result: PredictResult,
    files: Sequence[bytes],
    form: ResponseFormat,
    answer_headers: Mapping[str, str],
    holding: ByteHolding,
) -> PiecedResponse:
    """Build the answer; its bytes are counted in `holding` until they have been read."""
    headers = {**answer_headers, **shape_header(result, form, len(files)), "Vary": "Accept"}
    if form.media_type == JSON:
        return PiecedResponse(_document(result, files, form), headers, JSON, holding)
    if form.media_type == MIXED:
        boundary = multipart.new_boundary()
        pieces = [multipart.piece(boundary, *part) for part in parts(result, files, form)]
        headers["Content-Type"] = multipart.mixed_type(boundary)
        return PiecedResponse([*pieces, multipart.last(boundary)], headers, None, holding)
    return PiecedResponse(files, headers, form.media_type, holding)


def shape_header(result: PredictResult, form: ResponseFormat, frames: int) -> dict[str, str]:
    """Return the header with the size of raw pixels; nothing for other forms."""
    if form.media_type != ImageFormat.RAW.media_type:
        return {}
    frame = result.steps[0].frame
    shape = f"{frame.height},{frame.width},3"
    return {"X-Frame-Shape": f"{frames},{shape}" if frames > 1 else shape}


def parts(
    result: PredictResult, files: Sequence[bytes], form: ResponseFormat, first: int = 1
) -> Iterator[tuple[dict[str, str], bytes]]:
    """Yield each step's frame and maps with their headers; steps are numbered from `first`."""
    for number, (step, file) in enumerate(zip(result.steps, files, strict=True), start=first):
        about = {
            "Content-Type": form.format.media_type,
            "Content-Disposition": f'inline; name="frame-{number}"; filename="frame-{number}.{form.format}"',
            "X-Dmvfn-Step": str(number),
            "X-Dmvfn-Route": route_text(step.route),
            "X-Dmvfn-Flops": str(step.flops),
            **({} if step.t is None else {"X-Dmvfn-T": moments.text(step.t)}),
        }
        yield about, file
        for name, values in _maps(step, form.maps).items():
            about = {
                "Content-Type": "application/x-npy",
                "Content-Disposition": f'inline; name="{name}-{number}"; filename="{name}-{number}.npy"',
                "X-Dmvfn-Step": str(number),
            }
            yield about, _npy(values)


def _document(result: PredictResult, files: Sequence[bytes], form: ResponseFormat) -> list[bytes]:
    """Return the JSON text, a piece for each step: as one document its base64 would be in memory several times."""
    pieces = [json.dumps(head(result)).encode()[:-1] + b', "frames": [']
    for number, (step, file) in enumerate(zip(result.steps, files, strict=True), start=1):
        pieces.append((b"" if number == 1 else b", ") + step_text(step, file, form, number))
    return [*pieces, b"]}"]


def step_text(step: Step, file: bytes, form: ResponseFormat, number: int) -> bytes:
    """Return a member of `frames`, as JSON."""
    about = {
        "step": number,
        **({} if step.t is None else {"t": step.t}),
        "media_type": form.format.media_type,
        "data": base64.b64encode(file).decode("ascii"),
        "route": route_text(step.route),
        "flops": step.flops,
        **({"shares": _rounded(step.shares)} if step.shares else {}),
        **{name: _array(values) for name, values in _maps(step, form.maps).items()},
    }
    return json.dumps(about).encode()


def head(result: PredictResult) -> dict[str, Any]:
    """Return the members that stand before `frames`."""
    first, timings = result.steps[0].frame, result.timings
    stages = {"queue": timings.queue, "route": timings.route, "blocks": timings.blocks}
    if timings.motion:
        stages |= {"motion": timings.motion, "mixing": timings.mixing}
    return {
        "id": result.id,
        "method": result.method,
        "model": result.model_version,
        "width": first.width,
        "height": first.height,
        "flops": result.flops,
        "seed": result.seed,
        "shortened": result.shortened,
        **({"cut": True} if result.is_cut else {}),
        "batch_size": result.batch_size,
        "timings_ms": {name: round(seconds * 1000, 3) for name, seconds in stages.items()},
    }


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _maps(step: Step, maps: Maps) -> dict[str, NDArray[Any]]:
    if maps is Maps.NONE:
        return {}
    kind = "<f2" if maps is Maps.FLOAT16 else "<f4"
    arrays = {"flow": step.flow, "mask": step.mask, "confidence": step.confidence}
    return {name: np.ascontiguousarray(values, kind) for name, values in arrays.items() if values is not None}


def _array(values: NDArray[Any]) -> dict[str, Any]:
    """Return the values as JSON: little-endian, row by row, in base64."""
    return {
        "dtype": f"float{values.itemsize * 8}",
        "shape": list(values.shape),
        "data": base64.b64encode(values.tobytes()).decode("ascii"),
    }


def _npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
