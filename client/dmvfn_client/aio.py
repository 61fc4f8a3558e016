"""The same calls as `dmvfn_client.client`, for asyncio: cancelling the task withdraws the request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import httpx

from dmvfn_client import rest, video
from dmvfn_client.client import AT_ONCE
from dmvfn_client.deadline import TIMEOUT, Deadline
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


class AsyncClient:
    """One service, on one event loop; `async with` or `close` ends its connections."""

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
        self._http = httpx.AsyncClient(base_url=url, headers=rest.authorization(api_key), verify=verify)
        self._timeout, self._retry = timeout, retry or Retry()

    async def predict(
        self,
        previous: Picture,
        current: Picture,
        *,
        maps: bool = False,
        encoding: Encoding | None = None,
        timeout: float | None = None,
        **options: Unpack[PictureOptions],
    ) -> Prediction:
        """As `Client.predict`."""
        call = rest.predict(previous, current, Options(**options), maps=maps, encoding=encoding)
        return rest.prediction(await self._send(call, timeout))

    async def predict_many(
        self, pairs: Iterable[tuple[Picture, Picture]], *, at_once: int = AT_ONCE, **params: Unpack[PredictParams]
    ) -> list[Prediction]:
        """As `Client.predict_many`."""
        turns = asyncio.Semaphore(at_once)

        async def one(previous: Picture, current: Picture) -> Prediction:
            async with turns:
                return await self.predict(previous, current, **params)

        tasks = [asyncio.ensure_future(one(*pair)) for pair in pairs]  # awaited below
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def predict_video(
        self, clip: Clip, output: Output, *, timeout: float | None = None, **params: Unpack[ClipParams]
    ) -> None:
        """As `Client.predict_video`."""
        call = video.call(**params)
        try:
            await asyncio.wait_for(self._convert(call, clip, output), timeout)
        except asyncio.TimeoutError as raised:
            raise Deadline(timeout).error() from raised

    async def model(self, *, timeout: float | None = None) -> dict[str, Any]:
        """What is served, its limits and options (GET /v1/model)."""
        return rest.document(await self._send(rest.model(), timeout))

    async def submit(
        self,
        frames: Sequence[Picture],
        *,
        idempotency_key: str | None = None,
        maps: bool = False,
        webhook: str | None = None,
        timeout: float | None = None,
        **options: Unpack[PairOptions],
    ) -> Job:
        """As `Client.submit`."""
        call = rest.submit(frames, Options(**options), idempotency_key, maps=maps, webhook=webhook)
        return rest.as_job(await self._send(call, timeout))

    async def job(self, id: str, *, timeout: float | None = None) -> Job:
        """How it stands."""
        return rest.as_job(await self._send(rest.job(id), timeout))

    async def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """As `Client.wait`."""
        return await self._poll(JobPolling(job, timeout))

    async def result(self, job: Job | str, timeout: float | None = None, *, maps: bool = False) -> Prediction:
        """As `Client.result`."""
        polling = JobPolling(job, timeout)
        await self._poll(polling)
        return rest.prediction(await self._send(rest.result(polling.id, maps=maps), polling.fetch_timeout()))

    async def cancel(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Withdraw it, if it is not final yet."""
        return rest.as_job(await self._send(rest.cancel(rest.job_id(job)), timeout))

    async def _poll(self, polling: JobPolling) -> Job:
        while True:
            call, seconds = polling.next_poll()
            job = rest.as_job(await self._send(call, seconds))
            if polling.is_over(job):
                return job

    async def _send(self, call: Call, timeout: float | None) -> httpx.Response:
        tries = Tries(self._retry, self._timeout if timeout is None else timeout)
        while True:
            left = tries.deadline.check()
            try:
                response = await asyncio.wait_for(self._http.send(call.request(self._http, left)), left)
                error = rest.failure(response)
            except (asyncio.TimeoutError, httpx.TimeoutException) as raised:
                raise tries.deadline.error() from raised
            except httpx.RequestError as raised:
                error = rest.unreachable(self._http.base_url, raised)
            if error is None:
                return response
            await asyncio.sleep(tries.pause(error))

    async def _convert(self, call: Call, clip: Clip, output: Output) -> None:
        with video.opened(clip) as content:
            body = content if isinstance(content, bytes) else _pieces(content)
            request = call.request(self._http, None, body)
            if not isinstance(content, bytes):
                request.headers["Content-Length"] = str(os.fstat(content.fileno()).st_size)
                request.headers.pop("Transfer-Encoding", None)
            has_begun = False
            try:
                response = await self._http.send(request, stream=True)
                has_begun = True
                try:
                    if not response.is_success:
                        await response.aread()
                    if error := rest.failure(response):
                        raise error
                    with video.written(output) as file:
                        async for piece in response.aiter_bytes():
                            await asyncio.to_thread(file.write, piece)
                finally:
                    await response.aclose()
            except httpx.RequestError as raised:
                raise rest.unreachable(self._http.base_url, raised, has_begun=has_begun) from raised

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, 2**16):
        yield piece
