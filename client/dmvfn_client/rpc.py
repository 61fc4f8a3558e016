"""Calls the service over gRPC and waits for the answer; live streams as iterators."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal

import grpc

from dmvfn_client import wire
from dmvfn_client.client import TIMEOUT
from dmvfn_client.errors import DmvfnError
from dmvfn_client.pb import dmvfn_pb2 as pb
from dmvfn_client.pictures import Picture, Shot
from dmvfn_client.rest import Options
from dmvfn_client.retry import Retry
from dmvfn_client.values import Prediction
from dmvfn_client.wire import Answer, Kind


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
        self._channel = (
            grpc.secure_channel(target, credentials, wire.CHANNEL)
            if credentials
            else grpc.insecure_channel(target, wire.CHANNEL)
        )
        self._predict: Any = self._channel.unary_unary(
            f"{wire.SERVICE}/Predict",
            request_serializer=pb.PredictRequest.SerializeToString,
            response_deserializer=pb.PredictResponse.FromString,
        )
        self._stream: Any = self._channel.stream_stream(
            f"{wire.SERVICE}/StreamPredict",
            request_serializer=pb.StreamPredictRequest.SerializeToString,
            response_deserializer=pb.StreamPredictResponse.FromString,
        )
        self._metadata = metadata(api_key)
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
        timeout: float | None = None,
    ) -> Prediction:
        """The frames that follow two; raises a DmvfnError. `timeout` in place of the client's, seconds."""
        message = wire.request(
            previous, current, Options(steps, route, seed, blocks, scale, quality, method=method), maps
        )
        message.request_id = str(uuid.uuid4())
        made = self._send(lambda left: self._predict(message, timeout=left, metadata=self._metadata), timeout)
        return wire.prediction(made.prediction, made.request_id)

    def stream(
        self,
        frames: Iterable[Picture | Shot],
        *,
        horizon: int = 1,
        policy: Literal["latest", "all"] = "all",
        window: int | None = None,
        scene_cuts: bool = True,
        frame_deadline: float | None = None,
        route: str | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        quality: Literal["exact", "adaptive"] | None = None,
        method: Literal["dmvfn", "flow", "mix"] | None = None,
    ) -> Iterator[Answer]:
        """One answer for every frame, in order, while frames are still being taken from `frames`.

        "all" predicts for every frame and takes frames only as fast as that goes; "latest" leaves out what comes while
        the service is busy, for cameras. `frame_deadline`: seconds from a frame's arrival after which its prediction is
        an ERROR instead; with quality="adaptive" fewer blocks run rather than that. Stop iterating (or close the
        iterator) to cancel. What `frames` raises is raised here, after the answers to what was sent before. Not tried
        again: `examples/live.py` shows how to go on after a DRAINING or an error.
        """
        options = Options(route=route, blocks=blocks, scale=scale, quality=quality, method=method)
        begun = wire.start(horizon, options, policy, window, scene_cuts, frame_deadline)
        broken: list[Exception] = []

        def messages() -> Iterator[pb.StreamPredictRequest]:
            yield begun
            try:
                for number, frame in enumerate(frames):
                    yield from wire.sent(frame, number)
            except Exception as error:
                # Left to gRPC, it would be told as a failed call. Ending here gets what was sent its answers first.
                broken.append(error)

        call = self._stream(messages(), metadata=self._metadata)
        try:
            for made in call:
                yield wire.answer(made)
            if broken:
                raise broken[0]
        except grpc.RpcError as raised:
            raise wire.failure(raised) from raised
        finally:
            call.cancel()

    def _send(self, call: Callable[[float | None], Any], timeout: float | None) -> Any:
        seconds = self._timeout if timeout is None else timeout
        until = None if seconds is None else time.monotonic() + seconds
        failed = 0
        while True:
            try:
                return call(None if until is None else max(0.0, until - time.monotonic()))
            except grpc.RpcError as raised:
                error: DmvfnError = wire.failure(raised)
                error.__cause__ = raised
            failed += 1
            pause = self._retry.wait(
                error, failed, None if until is None else until - time.monotonic(), random.random()
            )
            if pause is None:
                raise error
            time.sleep(pause)

    def close(self) -> None:
        """Ends its connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with every call."""
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


__all__ = ["Answer", "GrpcClient", "Kind"]
