"""The REST calls as values: what to send, and what an answer means. Does no I/O itself."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from dmvfn_client import errors
from dmvfn_client.errors import DmvfnError, ServiceFailed
from dmvfn_client.pictures import Picture, to_bytes, to_pixels
from dmvfn_client.values import Frame, Job, Prediction

#: How frames are sent back; png is exact.
Encoding = Literal["png", "jpeg", "webp"]
#: Sent with each try: how much of the caller's time is left.
TIMEOUT_HEADER = "X-Request-Timeout-Ms"


@dataclass(frozen=True, slots=True)
class Options:
    """How to predict; None leaves it to the service. See docs/api.md for what each means."""

    steps: int | None = None
    route: str | None = None
    seed: int | None = None
    blocks: int | None = None
    scale: float | None = None
    quality: Literal["exact", "adaptive"] | None = None
    image_quality: int | None = None
    method: Literal["dmvfn", "flow", "mix"] | None = None

    def fields(self) -> dict[str, str]:
        """As form fields."""
        given = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: str(value) for name, value in given if value is not None}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, to be sent as often as it takes."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] = ()
    params: Mapping[str, str] = field(default_factory=dict)

    def request(self, client: httpx.Client | httpx.AsyncClient, remaining: float | None) -> httpx.Request:
        """Ready to send; `remaining` seconds are told to the service, so that it does not work for nobody."""
        headers = dict(self.headers)
        if remaining is not None and self.path == PREDICT:
            headers[TIMEOUT_HEADER] = str(max(1, int(remaining * 1000)))
        return client.build_request(
            self.method,
            self.path,
            headers=headers,
            data=dict(self.data) or None,
            files=list(self.files) or None,
            params=dict(self.params) or None,
            timeout=httpx.Timeout(remaining),
        )


PREDICT, MODEL, JOBS = "/v1/predict", "/v1/model", "/v1/jobs"


def predict(previous: Picture, current: Picture, options: Options, *, maps: bool, encoding: Encoding) -> Call:
    """Two frames to the next ones."""
    files = [("previous", ("previous", to_bytes(previous))), ("current", ("current", to_bytes(current)))]
    # float16 is far below what motion can be told apart by, and half the bytes.
    data = options.fields() | ({"maps": "float16"} if maps else {})
    return Call("POST", PREDICT, {"Accept": f"application/json, image/{encoding};q=0.5"}, data, files)


def submit(frames: Sequence[Picture], options: Options, idempotency_key: str | None) -> Call:
    """A job. Without a key of the caller's it gets one, so that a repeated try never makes a second job."""
    if len(frames) < 2:
        raise errors.InvalidInput("a job needs at least two frames", code="invalid_request", field="frames")
    files = [("frames", (f"frame-{k}", to_bytes(frame))) for k, frame in enumerate(frames)]
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Call("POST", JOBS, headers, options.fields(), files)


def job(id: str, wait: float = 0.0) -> Call:
    """How it stands, or how it stands once that changed."""
    return Call("GET", f"{JOBS}/{_segment(id)}", params={"wait": f"{wait:g}"} if wait else {})


def cancel(id: str) -> Call:
    """Withdraw it."""
    return Call("DELETE", f"{JOBS}/{_segment(id)}")


def result(id: str) -> Call:
    """All that it predicted."""
    return Call("GET", f"{JOBS}/{_segment(id)}/result", {"Accept": "application/json, image/png;q=0.5"})


def model() -> Call:
    """What is served."""
    return Call("GET", MODEL)


def failure(response: httpx.Response) -> DmvfnError | None:
    """The error that an answer is, if it is one."""
    if response.is_success:
        return None
    problem: Any = None
    if "json" in response.headers.get("content-type", ""):
        try:
            problem = json.loads(response.content)
        except ValueError:
            problem = None
    waits = response.headers.get("retry-after", "")
    return errors.of_problem(
        response.status_code, problem if isinstance(problem, dict) else None, float(waits) if waits.isdigit() else None
    )


def document(response: httpx.Response) -> dict[str, Any]:
    """An answer's JSON object."""
    try:
        found = json.loads(response.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServiceFailed("the answer is not JSON: is this a DMVFN service?", code="internal")
    return found


def prediction(response: httpx.Response) -> Prediction:
    """Of an answer to `predict` or `result`."""
    told = document(response)
    return Prediction(
        frames=tuple(_frame(frame) for frame in told["frames"]),
        model=told["model"],
        request_id=response.headers.get("x-request-id", ""),
        seed=told.get("seed"),
        shortened=bool(told.get("shortened")),
        batch_size=told.get("batch_size", 1),
        timings_ms=told.get("timings_ms", {}),
        method=told.get("method", "dmvfn"),
        shares=_shares(told["frames"]),
    )


def as_job(response: httpx.Response) -> Job:
    """Of an answer about a job."""
    told = document(response)
    return Job(told["id"], told["state"], told["items"], told["done"], told["progress"], told.get("error"))


def _shares(frames: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean over all frames; none of the network's."""
    shares = [frame.get("shares", {}) for frame in frames]
    return {name: sum(each[name] for each in shares) / len(shares) for name in shares[0]} if shares else {}


def _frame(told: Mapping[str, Any]) -> Frame:
    flow, mask, trust = (_array(told[name]) if name in told else None for name in ("flow", "mask", "confidence"))
    pixels = to_pixels(base64.b64decode(told["data"]))
    return Frame(pixels, told["route"], told["flops"], flow, mask, confidence=trust)


def _array(told: Mapping[str, Any]) -> NDArray[np.float32]:
    kind = {"float16": "<f2", "float32": "<f4"}[told["dtype"]]
    return np.frombuffer(base64.b64decode(told["data"]), kind).reshape(told["shape"]).astype(np.float32)


def _segment(id: str) -> str:
    if not id or any(c in id for c in "/?#%") or id in (".", ".."):
        raise errors.InvalidInput(f"{id!r} is no job's id", code="invalid_request")
    return id
