"""Calls the service over REST and waits for the answer."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal

import httpx

from dmvfn_client import rest, video
from dmvfn_client.deadline import Deadline, TimedUpload, cutting
from dmvfn_client.errors import ConnectionFailed, DeadlineExceeded, DmvfnError, InvalidInput
from dmvfn_client.pictures import Picture
from dmvfn_client.rest import Call, Encoding, Options
from dmvfn_client.retry import Retry
from dmvfn_client.values import Job, Prediction
from dmvfn_client.video import Clip, Container, Output

#: Seconds a call may take, all tries together, where the caller says nothing.
TIMEOUT = 30.0
#: Seconds of one long poll for a job: the service's longest.
POLL = 50.0
#: Pairs of `predict_many` under way at once.
AT_ONCE = 8
#: Seconds that fetching the result of a job may take at least, if the wait for it took all of the caller's.
FETCH = 1.0


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
        encoding: Encoding | None = None,
        image_quality: int | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """The frames that follow two; raises a DmvfnError. `timeout` in place of the client's, seconds.

        Pixels are sent as they are, files as they are. `encoding` is that of the answer on its way; None: exact.
        """
        options = Options(steps, route, seed, blocks, scale, quality, image_quality, method)
        return rest.prediction(
            self._send(rest.predict(previous, current, options, maps=maps, encoding=encoding), timeout)
        )

    def predict_many(
        self,
        pairs: Iterable[tuple[Picture, Picture]],
        *,
        at_once: int = AT_ONCE,
        steps: int = 1,
        route: str | None = None,
        seed: int | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        quality: Literal["exact", "adaptive"] | None = None,
        method: Literal["dmvfn", "flow", "mix"] | None = None,
        maps: bool = False,
        encoding: Encoding | None = None,
        image_quality: int | None = None,
        timeout: float | None = None,
    ) -> list[Prediction]:
        """What follows each of many pairs, in their order; `at_once` are under way, which the service batches.

        Options and `timeout` as `predict`'s, for each pair. The first error is raised; pairs not yet sent are not sent.
        """

        def one(pair: tuple[Picture, Picture]) -> Prediction:
            return self.predict(
                *pair,
                steps=steps,
                route=route,
                seed=seed,
                blocks=blocks,
                scale=scale,
                quality=quality,
                method=method,
                maps=maps,
                encoding=encoding,
                image_quality=image_quality,
                timeout=timeout,
            )

        with ThreadPoolExecutor(at_once, "dmvfn-client") as threads:
            futures = [threads.submit(one, pair) for pair in pairs]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def predict_video(
        self,
        clip: Clip,
        output: Output,
        *,
        ahead: int | None = None,
        every: int | None = None,
        lost: str | Sequence[int] | None = None,
        compare: bool = False,
        method: Literal["dmvfn", "flow", "mix"] | None = None,
        route: str | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        container: Container = "mp4",
        timeout: float | None = None,
    ) -> None:
        """Writes the clip with predicted frames to `output`, a path or an open file; docs/api.md says more.

        Say one of `ahead`, `every` and `lost`. `timeout` in seconds; None: no end, as a clip takes as long as it is.
        An answer that breaks off is a ConnectionFailed, and leaves no file.
        """
        options = Options(route=route, blocks=blocks, scale=scale, method=method)
        call = video.call(ahead, every, lost, options, compare=compare, container=container)
        deadline = Deadline(timeout)
        with video.opened(clip) as content:
            request = call.request(self._http, deadline.left, content)
            with self._answer(request, deadline) as response:
                if not response.is_success:
                    response.read()
                if error := rest.failure(response):
                    raise error
                with video.written(output) as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
                    deadline.check()

    def model(self, *, timeout: float | None = None) -> dict[str, Any]:
        """What is served, its limits and options (GET /v1/model)."""
        return rest.document(self._send(rest.model(), timeout))

    def submit(
        self,
        frames: Sequence[Picture],
        *,
        idempotency_key: str | None = None,
        steps: int = 1,
        route: str | None = None,
        seed: int | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        quality: Literal["exact", "adaptive"] | None = None,
        method: Literal["dmvfn", "flow", "mix"] | None = None,
        maps: bool = False,
        webhook: str | None = None,
        timeout: float | None = None,
    ) -> Job:
        """A job that predicts what follows each consecutive pair; options as `predict`'s. `timeout` is the sending's.

        With the same key and frames it is the same job, however often it is sent. `webhook`: a URL called at the end.
        """
        options = Options(steps, route, seed, blocks, scale, quality, method=method)
        call = rest.submit(frames, options, idempotency_key, maps=maps, webhook=webhook)
        return rest.as_job(self._send(call, timeout))

    def job(self, id: str, *, timeout: float | None = None) -> Job:
        """How it stands."""
        return rest.as_job(self._send(rest.job(id), timeout))

    def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """As soon as it is final; DeadlineExceeded after `timeout` seconds (the job goes on)."""
        id = job.id if isinstance(job, Job) else job
        deadline = Deadline(timeout)
        while True:
            poll = POLL if deadline.left is None else max(0.0, min(POLL, deadline.left))
            found = rest.as_job(self._send(rest.job(id, wait=poll), poll + TIMEOUT))
            if found.final:
                return found
            if deadline.passed:
                raise DeadlineExceeded(f"job {id} is still {found.state}", code="deadline_exceeded")

    def result(self, job: Job | str, timeout: float | None = None, *, maps: bool = False) -> Prediction:
        """Waits for it, then all its frames in order; the job's own error if it failed. `timeout` is for both.

        `maps` come with the frames if they were asked for in `submit`, too.
        """
        deadline = Deadline(timeout)
        found = self.wait(job, timeout)
        left = None if deadline.left is None else max(deadline.left, FETCH)
        return rest.prediction(self._send(rest.result(found.id, maps=maps), left))

    def cancel(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Withdraws it, if it is not final yet."""
        return rest.as_job(self._send(rest.cancel(job.id if isinstance(job, Job) else job), timeout))

    def _send(self, call: Call, timeout: float | None) -> httpx.Response:
        deadline = Deadline(self._timeout if timeout is None else timeout)
        failed = 0
        while True:
            left = deadline.check()
            error: DmvfnError | None = None
            try:
                with self._answer(call.request(self._http, left), deadline) as response:
                    response.read()
                error = rest.failure(response)
                if error is None:
                    return response
            except ConnectionFailed as raised:
                error = raised
            failed += 1
            pause = self._retry.wait(error, failed, deadline.left, random.random())
            if pause is None:
                raise error
            time.sleep(pause)

    @contextlib.contextmanager
    def _answer(self, request: httpx.Request, deadline: Deadline) -> Iterator[httpx.Response]:
        """Sends the request; the answer can be read until the deadline. What httpx raises meanwhile becomes ours."""
        if isinstance(request.stream, httpx.SyncByteStream):
            request.stream = TimedUpload(request.stream, deadline)
        try:
            response = self._http.send(request, stream=True)
            try:
                with cutting(response, deadline):
                    yield response
            finally:
                response.close()
            deadline.check()  # an answer without a length that was cut looks whole
        except httpx.TimeoutException as raised:
            raise deadline.error() from raised
        except httpx.TransportError as raised:
            if deadline.passed:
                raise deadline.error() from raised
            raise unreachable(self._http.base_url, raised) from raised

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
    """What a broken or refused connection is; what could never be sent is InvalidInput, and is not tried again."""
    if isinstance(raised, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return InvalidInput(f"{str(url)!r} cannot be called: {raised}", code="invalid_request", field="url")
    error = ConnectionFailed(f"cannot reach {url}: {raised or type(raised).__name__}; is the service running?")
    error.__cause__ = raised
    return error
