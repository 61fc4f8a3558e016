"""Calls the service over REST and waits for the answer."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

import httpx

from dmvfn_client import rest
from dmvfn_client.errors import ConnectionFailed, DeadlineExceeded, DmvfnError
from dmvfn_client.pictures import Picture
from dmvfn_client.rest import Call, Encoding, Options
from dmvfn_client.retry import Retry
from dmvfn_client.values import Job, Prediction

#: Seconds a call may take, all tries together, where the caller says nothing.
TIMEOUT = 30.0
#: Seconds of one long poll for a job: the service's longest.
POLL = 50.0


class Client:
    """One service. May be used from several threads; `with` or `close` ends its connections."""

    def __init__(
        self,
        url: str = "http://localhost:8000",
        *,
        api_key: str | None = None,
        timeout: float | None = TIMEOUT,
        retry: Retry | None = None,
        verify: Any = True,
    ) -> None:
        """`timeout` is for a whole call, tries and waits included; None: no end. `verify` as in httpx (TLS)."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, verify=verify)
        self._timeout, self._retry = timeout, retry or Retry()

    def predict(
        self,
        previous: Picture,
        current: Picture,
        *,
        steps: int = 1,
        route: str | None = None,
        seed: int | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        quality: Literal["exact", "adaptive"] | None = None,
        method: Literal["dmvfn", "flow", "mix"] | None = None,
        maps: bool = False,
        encoding: Encoding = "png",
        image_quality: int | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """The frames that follow two; raises a DmvfnError. `timeout` in place of the client's, seconds."""
        options = Options(steps, route, seed, blocks, scale, quality, image_quality, method)
        return rest.prediction(
            self._send(rest.predict(previous, current, options, maps=maps, encoding=encoding), timeout)
        )

    def model(self) -> dict[str, Any]:
        """What is served, its limits and options (GET /v1/model)."""
        return rest.document(self._send(rest.model(), None))

    def submit(self, frames: Sequence[Picture], *, idempotency_key: str | None = None, **options: Any) -> Job:
        """A job that predicts what follows each consecutive pair; options as `predict`'s (route, blocks, steps, ...).

        With the same key and frames it is the same job, however often it is sent.
        """
        return rest.as_job(self._send(rest.submit(frames, Options(**options), idempotency_key), None))

    def job(self, id: str) -> Job:
        """How it stands."""
        return rest.as_job(self._send(rest.job(id), None))

    def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """As soon as it is final; DeadlineExceeded after `timeout` seconds (the job goes on)."""
        id = job.id if isinstance(job, Job) else job
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL if until is None else max(0.0, min(POLL, until - time.monotonic()))
            found = rest.as_job(self._send(rest.job(id, wait=left), left + TIMEOUT))
            if found.final:
                return found
            if until is not None and time.monotonic() >= until:
                raise DeadlineExceeded(f"job {id} is still {found.state}", code="deadline_exceeded")

    def result(self, job: Job | str, timeout: float | None = None) -> Prediction:
        """Waits for it, then all its frames in order; the job's own error if it failed."""
        found = self.wait(job, timeout)
        return rest.prediction(self._send(rest.result(found.id), None))

    def cancel(self, job: Job | str) -> Job:
        """Withdraws it, if it is not final yet."""
        return rest.as_job(self._send(rest.cancel(job.id if isinstance(job, Job) else job), None))

    def _send(self, call: Call, timeout: float | None) -> httpx.Response:
        seconds = self._timeout if timeout is None else timeout
        until = None if seconds is None else time.monotonic() + seconds
        failed = 0
        while True:
            remaining = None if until is None else until - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise DeadlineExceeded(f"no answer within {seconds:g} s", code="deadline_exceeded")
            error = None
            try:
                response = self._http.send(call.request(self._http, remaining))
                error = rest.failure(response)
                if error is None:
                    return response
            except httpx.TimeoutException as raised:
                raise DeadlineExceeded(f"no answer within {seconds:g} s", code="deadline_exceeded") from raised
            except httpx.TransportError as raised:
                error = unreachable(self._http.base_url, raised)
            failed += 1
            pause = self._retry.wait(
                error, failed, None if until is None else until - time.monotonic(), random.random()
            )
            if pause is None:
                raise error
            time.sleep(pause)

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def unreachable(url: object, raised: Exception) -> DmvfnError:
    """What a broken or refused connection is."""
    error = ConnectionFailed(f"cannot reach {url}: {raised or type(raised).__name__}; is the service running?")
    error.__cause__ = raised
    return error
