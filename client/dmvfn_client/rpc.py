"""Calls the service over gRPC and waits for the answer; live streams as iterators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
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
from dmvfn_client.wire import Answer, Kind

if TYPE_CHECKING:
    from typing_extensions import Unpack


class GrpcClient:
    """One service. May be used from several threads; `with` or `close` ends its connection."""

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
        self._channel = wire.channel(grpc, target, credentials)
        self._predict, self._stream = wire.methods(self._channel)
        self._metadata = wire.metadata(api_key)
        self._timeout, self._retry = timeout, retry or Retry()

    def predict(
        self,
        previous: Picture,
        current: Picture,
        *,
        maps: bool = False,
        timeout: float | None = None,
        **options: Unpack[PairOptions],
    ) -> Prediction:
        """Predict the frames that follow two; raises a DmvfnError. Seconds of `timeout` in place of the client's.

        Options: steps or t, version, route, seed, blocks, scale, quality, method; docs/api.md says what they mean.
        """
        message = wire.request(previous, current, Options(**options), maps)
        response = self._send(lambda left: self._predict(message, timeout=left, metadata=self._metadata), timeout)
        return wire.prediction(response.prediction, response.request_id)

    def stream(
        self,
        frames: Iterable[Picture | Shot],
        *,
        horizon: int | None = None,
        policy: Literal["latest", "all"] = "all",
        window: int | None = None,
        scene_cuts: bool = True,
        frame_deadline: float | None = None,
        params: StreamParams | None = None,
        **options: Unpack[StreamOptions],
    ) -> Iterator[Answer]:
        """One answer for every frame, in order, while frames are still being taken from `frames`.

        "all" predicts for every frame and takes frames only as fast as that goes; "latest" leaves out what comes while
        the service is busy, for cameras. `frame_deadline`: seconds from a frame's arrival after which its prediction is
        an ERROR instead; with quality="adaptive" fewer blocks run rather than that. Stop iterating (or close the
        iterator) to cancel. What `frames` raises is raised here, after the answers to what was sent before. Not tried
        again: `examples/live.py` shows how to go on after a DRAINING or an error. `params`: what the stream as a whole
        is asked for, e.g. {"score": True}, after which the last answer is a SUMMARY.
        Options: t in place of `horizon`, version, route, blocks, scale, quality, method.
        """
        start = wire.start(horizon, Options(**options), policy, window, scene_cuts, frame_deadline, params or {})
        source_errors: list[Exception] = []

        def messages() -> Iterator[pb.StreamPredictRequest]:
            yield start
            try:
                for number, frame in enumerate(frames):
                    yield from wire.sent(frame, number)
            except Exception as error:
                # Left to gRPC, it would be told as a failed call. Ending here gets what was sent its answers first.
                source_errors.append(error)

        call = self._stream(messages(), metadata=self._metadata)
        try:
            for response in call:
                yield wire.answer(response)
            if source_errors:
                raise source_errors[0]
        except grpc.RpcError as raised:
            raise wire.failure(raised) from raised
        finally:
            call.cancel()

    def _send(self, call: Callable[[float | None], Any], timeout: float | None) -> Any:
        tries = Tries(self._retry, self._timeout if timeout is None else timeout)
        while True:
            left = tries.deadline.left
            try:
                return call(None if left is None else max(0.0, left))
            except grpc.RpcError as raised:
                error: DmvfnError = wire.failure(raised)
                error.__cause__ = raised
            time.sleep(tries.pause(error))

    def close(self) -> None:
        """Ends its connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["Answer", "GrpcClient", "Kind"]
