"""The same calls as `dmvfn_client.client`, for asyncio: cancelling the task withdraws the request."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import IO, Any, Literal

import httpx

from dmvfn_client import rest, video
from dmvfn_client.client import AT_ONCE, FETCH, POLL, TIMEOUT, unreachable
from dmvfn_client.deadline import Deadline
from dmvfn_client.errors import DeadlineExceeded, DmvfnError
from dmvfn_client.pictures import Picture
from dmvfn_client.rest import Call, Encoding, Options
from dmvfn_client.retry import Retry
from dmvfn_client.values import Job, Prediction
from dmvfn_client.video import Clip, Container, Output


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
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, verify=verify)
        self._timeout, self._retry = timeout, retry or Retry()

    async def predict(
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
            await self._send(rest.predict(previous, current, options, maps=maps, encoding=encoding), timeout)
        )

    async def predict_many(
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

        turns = asyncio.Semaphore(at_once)

        async def one(previous: Picture, current: Picture) -> Prediction:
            async with turns:
                return await self.predict(
                    previous,
                    current,
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

        tasks = [asyncio.ensure_future(one(*pair)) for pair in pairs]  # awaited below
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def predict_video(
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
        return rest.as_job(await self._send(call, timeout))

    async def job(self, id: str, *, timeout: float | None = None) -> Job:
        """How it stands."""
        return rest.as_job(await self._send(rest.job(id), timeout))

    async def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """As soon as it is final; DeadlineExceeded after `timeout` seconds (the job goes on)."""
        id = job.id if isinstance(job, Job) else job
        deadline = Deadline(timeout)
        while True:
            poll = POLL if deadline.left is None else max(0.0, min(POLL, deadline.left))
            found = rest.as_job(await self._send(rest.job(id, wait=poll), poll + TIMEOUT))
            if found.final:
                return found
            if deadline.passed:
                raise DeadlineExceeded(f"job {id} is still {found.state}", code="deadline_exceeded")

    async def result(self, job: Job | str, timeout: float | None = None, *, maps: bool = False) -> Prediction:
        """Waits for it, then all its frames in order; the job's own error if it failed. `timeout` is for both.

        `maps` come with the frames if they were asked for in `submit`, too.
        """
        deadline = Deadline(timeout)
        found = await self.wait(job, timeout)
        left = None if deadline.left is None else max(deadline.left, FETCH)
        return rest.prediction(await self._send(rest.result(found.id, maps=maps), left))

    async def cancel(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Withdraws it, if it is not final yet."""
        return rest.as_job(await self._send(rest.cancel(job.id if isinstance(job, Job) else job), timeout))

    async def _send(self, call: Call, timeout: float | None) -> httpx.Response:
        deadline = Deadline(self._timeout if timeout is None else timeout)
        failed = 0
        while True:
            left = deadline.check()
            error: DmvfnError | None = None
            try:
                response = await asyncio.wait_for(self._http.send(call.request(self._http, left)), left)
                error = rest.failure(response)
                if error is None:
                    return response
            except (asyncio.TimeoutError, httpx.TimeoutException) as raised:
                raise deadline.error() from raised
            except httpx.TransportError as raised:
                error = unreachable(self._http.base_url, raised)
            failed += 1
            pause = self._retry.wait(error, failed, deadline.left, random.random())
            if pause is None:
                raise error
            await asyncio.sleep(pause)

    async def _convert(self, call: Call, clip: Clip, output: Output) -> None:
        with video.opened(clip) as content:
            body = content if isinstance(content, bytes) else _pieces(content)
            request = call.request(self._http, None, body)
            if not isinstance(content, bytes):
                request.headers["Content-Length"] = str(os.fstat(content.fileno()).st_size)
                request.headers.pop("Transfer-Encoding", None)
            try:
                response = await self._http.send(request, stream=True)
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
            except httpx.TransportError as raised:
                raise unreachable(self._http.base_url, raised) from raised

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
