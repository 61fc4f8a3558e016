"""The same calls as `dmvfn_client.rpc`, for asyncio: cancelling the task cancels the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import grpc

from dmvfn_client import wire
from dmvfn_client.deadline import TIMEOUT
from dmvfn_client.errors import DmvfnError
from dmvfn_client.options import Options, PairOptions, StreamOptions
from dmvfn_client.pb import dmvfn_pb2 as pb
from dmvfn_client.pictures import Picture, Shot
from dmvfn_client.retry import Retry
from dmvfn_client.stream_values import StreamParams
from dmvfn_client.tries import Tries
from dmvfn_client.values import Prediction
from dmvfn_client.wire import Answer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncGrpcClient:
    """One service, on one event loop; `async with` or `close` ends its connection."""

    def __init__(
        self,
        target: str = "localhost:8001",
        *,
        api_key: str | None = None,
        timeout: float | None = TIMEOUT,
        retry: Retry | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`timeout` is for a whole call, tries and waits included; None: no end. `credentials`: TLS."""
        self._channel = wire.channel(grpc.aio, target, credentials)
        self._predict, self._stream = wire.methods(self._channel)
        self._metadata = wire.metadata(api_key)
        self._timeout, self._retry = timeout, retry or Retry()

    async def predict(
        self,
        previous: Picture,
        current: Picture,
        *,
        maps: bool = False,
        timeout: float | None = None,
        **options: Unpack[PairOptions],
    ) -> Prediction:
        """As `GrpcClient.predict`."""
        message = wire.request(previous, current, Options(**options), maps)
        response = await self._send(lambda left: self._predict(message, timeout=left, metadata=self._metadata), timeout)
        return wire.prediction(response.prediction, response.request_id)

    async def stream(
        self,
        frames: Iterable[Picture | Shot] | AsyncIterable[Picture | Shot],
        *,
        horizon: int | None = None,
        policy: Literal["latest", "all"] = "all",
        window: int | None = None,
        scene_cuts: bool = True,
        frame_deadline: float | None = None,
        params: StreamParams | None = None,
        **options: Unpack[StreamOptions],
    ) -> AsyncGenerator[Answer, None]:
        """As `GrpcClient.stream`; `frames` may be asynchronous."""
        start = wire.start(horizon, Options(**options), policy, window, scene_cuts, frame_deadline, params or {})
        source_errors: list[Exception] = []

        async def messages() -> AsyncIterator[pb.StreamPredictRequest]:
            yield start
            number = 0
            try:
                async for frame in _each(frames):
                    for message in wire.sent(frame, number):
                        yield message
                    number += 1
            except Exception as error:
                # Left to gRPC, it would cancel the caller. Ending here gets what was sent its answers first.
                source_errors.append(error)

        call = self._stream(messages(), metadata=self._metadata)
        try:
            async for response in call:
                yield wire.answer(response)
            if source_errors:
                raise source_errors[0]
        except grpc.RpcError as raised:
            raise wire.failure(raised) from raised
        finally:
            call.cancel()

    async def _send(self, call: Callable[[float | None], Any], timeout: float | None) -> Any:
        tries = Tries(self._retry, self._timeout if timeout is None else timeout)
        while True:
            left = tries.deadline.left
            try:
                return await call(None if left is None else max(0.0, left))
            except grpc.RpcError as raised:
                error: DmvfnError = wire.failure(raised)
                error.__cause__ = raised
            await asyncio.sleep(tries.pause(error))

    async def close(self) -> None:
        """Ends its connection; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncGrpcClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _each(frames: Iterable[Picture | Shot] | AsyncIterable[Picture | Shot]) -> AsyncIterator[Picture | Shot]:
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
    else:
        for frame in frames:
            yield frame
