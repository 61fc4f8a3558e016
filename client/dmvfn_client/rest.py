"""The REST calls as values: what to send, and what an answer means. Does no I/O itself."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import httpx
import numpy as np
from numpy.typing import NDArray

from dmvfn_client import errors
from dmvfn_client.errors import ConnectionFailed, DmvfnError, InvalidInput, ServiceFailed
from dmvfn_client.headers import bearer, checked
from dmvfn_client.options import ENCODINGS, Encoding, Options, chosen
from dmvfn_client.pictures import Picture, raw, to_bytes, to_pixels
from dmvfn_client.values import Frame, Job, Prediction

#: Sent with each try: how much of the caller's time is left.
TIMEOUT_HEADER = "X-Request-Timeout-Ms"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, to be sent as often as it takes."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def request(
        self,
        client: httpx.Client | httpx.AsyncClient,
        remaining: float | None,
        content: IO[bytes] | AsyncIterable[bytes] | bytes | None = None,
    ) -> httpx.Request:
        """Ready to send; `remaining` seconds are told to the service, so that it does not work for nobody.

        `content` in place of the call's: a body that is too large to be held.
        """
        headers = dict(self.headers)
        if remaining is not None and self.path == PREDICT:
            headers[TIMEOUT_HEADER] = str(max(1, int(remaining * 1000)))
        return client.build_request(
            self.method,
            self.path,
            headers=headers,
            data=dict(self.data) or None,
            files=list(self.files) or None,
            content=self.content if content is None else content,
            params=dict(self.params) or None,
            timeout=httpx.Timeout(remaining),
        )


PREDICT, MODEL, JOBS = "/v1/predict", "/v1/model", "/v1/jobs"
RAW = "application/octet-stream"


def predict(previous: Picture, current: Picture, options: Options, *, maps: bool, encoding: Encoding | None) -> Call:
    """Two frames to the next ones. Pixels go as they are, files as they are; so does the one frame that comes back.

    `encoding`: of frames on their way back; None: raw for pixels where nothing else is wanted with it, else PNG.
    """
    chosen(encoding, ENCODINGS, "encoding")
    pixels = (raw(previous), raw(current))
    if pixels[0] is not None and pixels[1] is not None and pixels[0].shape == pixels[1].shape:
        is_raw = encoding is None and not maps and options.frames == 1
        accept = RAW if is_raw else f"application/json, image/{encoding or 'png'};q=0.5"
        shape = ",".join(map(str, (2, *pixels[0].shape)))
        headers = {"Accept": accept, "Content-Type": RAW, "X-Frame-Shape": shape}
        query = options.fields() | ({"maps": "float16"} if maps else {})
        return Call("POST", PREDICT, headers, params=query, content=pixels[0].tobytes() + pixels[1].tobytes())
    files = [("previous", ("previous", to_bytes(previous))), ("current", ("current", to_bytes(current)))]
    # float16 is far below what motion can be told apart by, and half the bytes.
    data = options.fields() | ({"maps": "float16"} if maps else {})
    accept = f"application/json, image/{encoding or 'png'};q=0.5"
    return Call("POST", PREDICT, {"Accept": accept}, data, files)


def submit(
    frames: Sequence[Picture],
    options: Options,
    idempotency_key: str | None,
    *,
    maps: bool = False,
    webhook: str | None = None,
) -> Call:
    """A job. Without a key of the caller's it gets one, so that a repeated try never makes a second job."""
    if len(frames) < 2:
        raise InvalidInput("a job needs at least two frames", code="invalid_request", field="frames")
    files = [("frames", (f"frame-{k}", to_bytes(frame))) for k, frame in enumerate(frames)]
    headers = {"Idempotency-Key": checked(idempotency_key or str(uuid.uuid4()), "idempotency_key")}
    data = options.fields() | ({"maps": "float16"} if maps else {})
    return Call("POST", JOBS, headers, data, files, {} if webhook is None else {"webhook": webhook})


def job_id(job: Job | str) -> str:
    """Return the id of a job that may be named by its value."""
    return job.id if isinstance(job, Job) else job


def job(id: str, wait: float = 0.0) -> Call:
    """How it stands, or how it stands once that changed."""
    return Call("GET", f"{JOBS}/{_segment(id)}", params={"wait": f"{wait:g}"} if wait else {})


def cancel(id: str) -> Call:
    """Withdraw it."""
    return Call("DELETE", f"{JOBS}/{_segment(id)}")


def result(id: str, *, maps: bool = False) -> Call:
    """All that it predicted."""
    query = {"maps": "float16"} if maps else {}
    accept = {"Accept": "application/json, image/png;q=0.5"}
    return Call("GET", f"{JOBS}/{_segment(id)}/result", accept, params=query)


def model() -> Call:
    """What is served."""
    return Call("GET", MODEL)


def authorization(api_key: str | None) -> dict[str, str]:
    """Return the headers that go with every call."""
    return {"Authorization": bearer(api_key)} if api_key else {}


def unreachable(url: object, raised: Exception, *, has_begun: bool = False) -> DmvfnError:
    """Return the error of a broken or refused connection; what could never be sent is InvalidInput: no other try.

    `has_begun`: the answer broke off, so that the service runs, and knows why.
    """
    if isinstance(raised, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return InvalidInput(f"{str(url)!r} cannot be called: {raised}", code="invalid_request", field="url")
    if isinstance(raised, httpx.DecodingError):
        return ServiceFailed(f"the answer of {url} is not compressed as it says: {raised}", code="internal")
    reason = raised or type(raised).__name__
    why = f"the answer of {url} broke off: {reason}" if has_begun else None
    error = ConnectionFailed(why or f"cannot reach {url}: {reason}; is the service running?")
    error.__cause__ = raised
    return error


def failure(response: httpx.Response) -> DmvfnError | None:
    """The error that an answer is, if it is one."""
    if response.is_success:
        return None
    if response.has_redirect_location:
        # Not followed: a redirected POST would send its frames twice, and mostly it is http where https is meant.
        why = f"{response.request.url} leads to {response.headers['location']}: give the client that address"
        return InvalidInput(why, code="invalid_request", field="url")
    problem: Any = None
    if "json" in response.headers.get("content-type", ""):
        try:
            problem = json.loads(response.content)
        except ValueError:
            problem = None
    waits = response.headers.get("retry-after", "")
    is_seconds = waits.isascii() and waits.isdigit()
    return errors.of_problem(
        response.status_code, problem if isinstance(problem, dict) else None, float(waits) if is_seconds else None
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
    if response.headers.get("content-type") == RAW:
        return _raw_prediction(response)
    told = document(response)
    with _understood():
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
            cut=bool(told.get("cut")),
        )


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Raise ServiceFailed where what is read inside has other members than a DMVFN service writes."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServiceFailed(
            "the answer is not what it should hold: is this a DMVFN service?", code="internal"
        ) from error


def _raw_prediction(response: httpx.Response) -> Prediction:
    """Of one frame as pixels, with what is told of it in headers."""
    headers = response.headers
    with _understood():
        shape = [int(side) for side in headers["x-frame-shape"].split(",")]
        pixels = np.frombuffer(response.content, np.uint8).reshape(shape).copy()
        moment = float(headers["x-dmvfn-t"]) if "x-dmvfn-t" in headers else None
        frame = Frame(pixels, headers["x-dmvfn-route"], int(headers["x-dmvfn-flops"]), t=moment)
        stages = (stage.strip().partition(";dur=") for stage in headers.get("server-timing", "").split(",") if stage)
        return Prediction(
            frames=(frame,),
            model=headers["x-dmvfn-model"],
            request_id=headers.get("x-request-id", ""),
            seed=int(headers["x-dmvfn-seed"]) if "x-dmvfn-seed" in headers else None,
            shortened="x-dmvfn-shortened" in headers,
            batch_size=int(headers.get("x-dmvfn-batch-size", "1")),
            timings_ms={name: float(milliseconds) for name, _, milliseconds in stages},
            method=headers.get("x-dmvfn-method", "dmvfn"),
            shares=_header_shares(headers.get("x-dmvfn-shares", "")),
            cut="x-dmvfn-cut" in headers,
        )


def as_job(response: httpx.Response) -> Job:
    """Of an answer about a job."""
    told = document(response)
    with _understood():
        return Job(told["id"], told["state"], told["items"], told["done"], told["progress"], told.get("error"))


def _header_shares(text: str) -> dict[str, float]:
    pairs = (word.partition("=") for word in text.split(",") if word)
    return {name: float(share) for name, _, share in pairs}


def _shares(frames: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean over all frames; none of the network's."""
    shares = [frame.get("shares", {}) for frame in frames]
    return {name: sum(each[name] for each in shares) / len(shares) for name in shares[0]} if shares else {}


def _frame(told: Mapping[str, Any]) -> Frame:
    flow, mask, trust = (_array(told[name]) if name in told else None for name in ("flow", "mask", "confidence"))
    pixels = to_pixels(base64.b64decode(told["data"]))
    return Frame(pixels, told["route"], told["flops"], flow, mask, confidence=trust, t=told.get("t"))


def _array(told: Mapping[str, Any]) -> NDArray[np.float32]:
    kind = {"float16": "<f2", "float32": "<f4"}[told["dtype"]]
    return np.frombuffer(base64.b64decode(told["data"]), kind).reshape(told["shape"]).astype(np.float32)


def _segment(id: str) -> str:
    if not id.isprintable() or not id or any(c in id for c in "/?#%") or id in (".", ".."):
        raise InvalidInput(f"{id!r} is no job's id", code="invalid_request")
    return id
