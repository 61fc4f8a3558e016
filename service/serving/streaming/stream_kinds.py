"""Chooses what drives a stream by what its client asked for."""

from __future__ import annotations

from service.app_state import AppState
from service.serving.streaming.concealed_stream import ConcealedStream
from service.serving.streaming.live_stream import LiveStream
from service.serving.streaming.messages import StreamRequest
from service.telemetry.metrics import Transport


def open_stream(
    state: AppState, request: StreamRequest, transport: Transport, *, client: str, identity: str
) -> LiveStream | ConcealedStream:
    """Build the stream; both kinds yield `answers` to what comes in. `client`, `identity` as of LiveStream."""
    kind = LiveStream if request.conceal is None else ConcealedStream
    return kind(state, request, transport, client=client, identity=identity)
