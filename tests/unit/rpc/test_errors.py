"""The status map, row by row: gRPC and REST say the same of the same error."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import numpy as np
import pytest
from google.rpc import error_details_pb2 as details_pb2
from grpc_status import rpc_status

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.core import errors as core
from service.core.errors import CODES, ServiceError
from service.rest.app import build
from service.rest.transport import errors as rest
from service.rpc import errors
from tests.unit.rpc.serving import served
from tests.unit.rpc.small import SmallEngine

S = grpc.StatusCode
#: facts/serving.md §b.4 and what it implies for the other codes: error, HTTP status, gRPC status, details beside
#: ErrorInfo and RequestInfo.
ROWS: list[tuple[ServiceError, int, grpc.StatusCode, set[str]]] = [
    (core.QueueFull("m", retry_after=1.5), 429, S.RESOURCE_EXHAUSTED, {"RetryInfo"}),
    (core.RateLimited("m", retry_after=3.0), 429, S.RESOURCE_EXHAUSTED, {"RetryInfo", "QuotaFailure"}),
    (core.PermissionDenied("m", reason="scope_jobs"), 403, S.PERMISSION_DENIED, set()),
    (core.ClientLimit("m"), 429, S.RESOURCE_EXHAUSTED, {"RetryInfo", "QuotaFailure"}),
    (core.DeadlineExceeded("m"), 504, S.DEADLINE_EXCEEDED, {"RetryInfo"}),
    (core.DeadlineExceeded("m", reason="unmeetable"), 504, S.DEADLINE_EXCEEDED, set()),
    (core.Unavailable("m", reason="draining", retry_after=2), 503, S.UNAVAILABLE, {"RetryInfo"}),
    (core.Unavailable("m", reason="device_lost"), 503, S.UNAVAILABLE, {"RetryInfo"}),
    (core.Cancelled("m"), 499, S.CANCELLED, set()),
    (core.TooLarge("m", field="previous"), 413, S.INVALID_ARGUMENT, {"BadRequest"}),
    (core.InvalidFrame("m", field="current"), 422, S.INVALID_ARGUMENT, {"BadRequest"}),
    (core.InvalidRequest("m", field="steps"), 400, S.INVALID_ARGUMENT, {"BadRequest"}),
    (core.UnsupportedMedia("m"), 415, S.INVALID_ARGUMENT, {"BadRequest"}),
    (core.NotAcceptable("m"), 406, S.INVALID_ARGUMENT, {"BadRequest"}),
    (core.NotFound("m"), 404, S.NOT_FOUND, set()),
    (core.Unauthenticated("m"), 401, S.UNAUTHENTICATED, set()),
    (core.Conflict("m"), 409, S.ALREADY_EXISTS, set()),
    (core.Unsupported("m"), 501, S.UNIMPLEMENTED, set()),
    (core.Internal("m"), 500, S.INTERNAL, set()),
]


def _row_id(value: Any) -> str:
    """Return a name that is the same in every process, whatever order a set has there."""
    return getattr(value, "reason", None) or str(sorted(value) if isinstance(value, set) else value)


def test_the_table_and_these_rows_have_every_code() -> None:
    assert set(errors.STATUS) == CODES == set(rest.STATUS)
    assert {error.code for error, *_ in ROWS} == CODES


@pytest.mark.parametrize(("error", "http", "status", "details"), ROWS, ids=_row_id)
def test_both_edges_say_the_same(error: ServiceError, http: int, status: grpc.StatusCode, details: set[str]) -> None:
    whole = errors.status(error, "r-1", "anna")
    response = rest.problem(error, "r-1", chance=lambda: 0.0)
    problem: dict[str, Any] = json.loads(bytes(response.body))
    assert (errors.STATUS[error.code], whole.code) == (status, status.value[0])
    assert (rest.STATUS[error.code], response.status_code, problem["status"]) == (http, http, http)
    found = {packed.type_url.rpartition(".")[2]: packed for packed in whole.details}
    assert set(found) == {"ErrorInfo", "RequestInfo"} | details
    info = details_pb2.ErrorInfo()
    found["ErrorInfo"].Unpack(info)
    assert info.metadata["code"] == problem["code"] == error.code
    assert info.reason == (problem.get("reason") or problem["code"]).upper()
    assert info.metadata["field"] == problem.get("field", "")
    retry = details_pb2.RetryInfo()
    said = found["RetryInfo"].Unpack(retry) if "RetryInfo" in found else False
    assert (retry.retry_delay.ToMilliseconds() if said else None) == problem.get("retry_after_ms")
    if "BadRequest" in found:
        bad = details_pb2.BadRequest()
        found["BadRequest"].Unpack(bad)
        assert bad.field_violations[0].field == problem.get("field", "")
    if "QuotaFailure" in found:
        quota = details_pb2.QuotaFailure()
        found["QuotaFailure"].Unpack(quota)
        assert quota.violations[0].subject == "anna"


@pytest.mark.parametrize("letter", ["x", "%", "é", "例", "\U0001f3ac", "\n"])
def test_a_long_message_still_fits_a_trailer(letter: str) -> None:
    error = core.InvalidRequest(letter * 100_000, field=letter * 100_000)
    # As they are sent: the text percent-encoded, the details in base64.
    details = base64.b64encode(errors.status(error, "r").SerializeToString())
    assert len(quote(errors.text(error))) + len(details) < 8192
    assert errors.text(error) == letter * len(errors.text(error)) != ""


@pytest.mark.parametrize(("error", "http", "status", "details"), ROWS, ids=_row_id)
async def test_both_edges_say_the_same_over_the_wire(
    error: ServiceError, http: int, status: grpc.StatusCode, details: set[str]
) -> None:
    engine = SmallEngine()
    engine.fails(error)
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    shown = pb.Frame(raw=pb.RawPicture(pixels=pixels[0].tobytes(), height=16, width=16))
    async with served(engine) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.Predict(pb.PredictRequest(previous=shown, current=shown))
        transport = httpx.ASGITransport(build(s.parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"Content-Type": "application/octet-stream", "X-Frame-Shape": "2,16,16,3"}
            response = await client.post("/v1/predict", content=pixels.tobytes(), headers=headers)
    assert (refused.value.code(), response.status_code) == (status, http)
    whole = rpc_status.from_call(_Trailers(refused.value))
    info = details_pb2.ErrorInfo()
    assert [info for packed in whole.details if packed.Unpack(info)]
    assert (info.metadata["code"], refused.value.details()) == (response.json()["code"], response.json()["detail"])
    assert {packed.type_url.rpartition(".")[2] for packed in whole.details} == {"ErrorInfo", "RequestInfo"} | details
    assert ("Retry-After" in response.headers) == ("RetryInfo" in details)


class _Trailers:
    """An error of grpc.aio as grpcio-status, made for the other interface, reads it."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    def code(self) -> Any:
        return self._error.code()

    def details(self) -> Any:
        return self._error.details()

    def trailing_metadata(self) -> Any:
        return tuple(self._error.trailing_metadata() or ())
