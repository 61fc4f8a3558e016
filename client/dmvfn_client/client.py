"""Calls the service over REST and waits for the answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from dmvfn_client import rest, video
from dmvfn_client.deadline import TIMEOUT, Deadline, bound_connection, bounding
from dmvfn_client.errors import ConnectionFailed
from dmvfn_client.options import ClipParams, Encoding, Options, PairOptions, PictureOptions, PredictParams
from dmvfn_client.pictures import Picture
from dmvfn_client.polling import JobPolling
from dmvfn_client.rest import Call
from dmvfn_client.retry import Retry
from dmvfn_client.tries import Tries
from dmvfn_client.values import Job, Prediction
from dmvfn_client.video import Clip, Output

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Pairs of `predict_many` under way at once.
AT_ONCE = 8


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
        self._http = httpx.Client(base_url=url, headers=rest.authorization(api_key), verify=verify)
        self._timeout, self._retry = timeout, retry or Retry()

    def predict(
        self,
        previous: Picture,
        current: Picture,
        *,
        maps: bool = False,
        encoding: Encoding | None = None,
        timeout: float | None = None,
        **options: Unpack[PictureOptions],
    ) -> Prediction:
        """Predict the frames that follow two; raises a DmvfnError. Seconds of `timeout` in place of the client's.

        Pixels are sent as they are, files as they are. `encoding` is that of the answer on its way; None: exact.
        Options: steps or t, version, route, seed, blocks, scale, quality, method, image_quality: docs/api.md explains.
        """
        call = rest.predict(previous, current, Options(**options), maps=maps, encoding=encoding)
        return rest.prediction(self._send(call, timeout))

    def predict_many(
        self, pairs: Iterable[tuple[Picture, Picture]], *, at_once: int = AT_ONCE, **params: Unpack[PredictParams]
    ) -> list[Prediction]:
        """Predict what follows each of many pairs, in their order; `at_once` are under way, which the service batches.

        `params` as `predict`'s, for each pair. The first error is raised; pairs not yet sent are not sent.
        """
        with ThreadPoolExecutor(at_once, "dmvfn-client") as threads:
            futures = [threads.submit(lambda pair: self.predict(*pair, **params), pair) for pair in pairs]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()

    def predict_video(
        self, clip: Clip, output: Output, *, timeout: float | None = None, **params: Unpack[ClipParams]
    ) -> None:
        """Write the clip with predicted frames to `output`, a path or an open file; docs/api.md says more.

        Say one of `ahead`, `every` and `lost`; or `fps`, `conceal` or both. Options: compare, container, sound,
        version, method, route, blocks, scale. `timeout` in seconds; None: no end, as a clip takes as long as it is. An
        answer that breaks off is a ConnectionFailed, and leaves no file.
        """
        call = video.call(**params)
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
        maps: bool = False,
        webhook: str | None = None,
        timeout: float | None = None,
        **options: Unpack[PairOptions],
    ) -> Job:
        """Submit a job that predicts what follows each consecutive pair. `timeout` is the sending's.

        With the same key and frames it is the same job, however often it is sent. `webhook`: a URL called at the end.
        Options: steps or t, version, route, seed, blocks, scale, quality, method.
        """
        call = rest.submit(frames, Options(**options), idempotency_key, maps=maps, webhook=webhook)
        return rest.as_job(self._send(call, timeout))

    def job(self, id: str, *, timeout: float | None = None) -> Job:
        """How it stands."""
        return rest.as_job(self._send(rest.job(id), timeout))

    def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """Wait until it is final; DeadlineExceeded after `timeout` seconds (the job goes on)."""
        return self._poll(JobPolling(job, timeout))

    def result(self, job: Job | str, timeout: float | None = None, *, maps: bool = False) -> Prediction:
        """Wait for it, then return all its frames in order; the job's own error if it failed. `timeout` is for both.

        `maps` come with the frames if they were asked for in `submit`, too.
        """
        polling = JobPolling(job, timeout)
        self._poll(polling)
        return rest.prediction(self._send(rest.result(polling.id, maps=maps), polling.fetch_timeout()))

    def cancel(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Withdraw it, if it is not final yet."""
        return rest.as_job(self._send(rest.cancel(rest.job_id(job)), timeout))

    def _poll(self, polling: JobPolling) -> Job:
        while True:
            call, seconds = polling.next_poll()
            job = rest.as_job(self._send(call, seconds))
            if polling.is_over(job):
                return job

    def _send(self, call: Call, timeout: float | None) -> httpx.Response:
        tries = Tries(self._retry, self._timeout if timeout is None else timeout)
        while True:
            left = tries.deadline.check()
            try:
                with self._answer(call.request(self._http, left), tries.deadline) as response:
                    response.read()
                error = rest.failure(response)
            except ConnectionFailed as raised:
                error = raised
            if error is None:
                return response
            time.sleep(tries.pause(error))

    @contextlib.contextmanager
    def _answer(self, request: httpx.Request, deadline: Deadline) -> Iterator[httpx.Response]:
        """Sends the request; the answer can be read until the deadline. What httpx raises meanwhile becomes ours."""
        request.extensions["trace"] = bound_connection
        has_begun = False
        try:
            with bounding(deadline):
                response = self._http.send(request, stream=True)
                has_begun = True
                try:
                    yield response
                finally:
                    response.close()
        except httpx.TimeoutException as raised:
            raise deadline.error() from raised
        except httpx.RequestError as raised:
            if deadline.passed:
                raise deadline.error() from raised
            raise rest.unreachable(self._http.base_url, raised, has_begun=has_begun) from raised

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
