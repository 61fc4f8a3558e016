"""Live streams over a real WebSocket: the same session as gRPC's, for browsers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.app_state import AppState
from service.core.errors import ServiceError
from service.core.types import Quality
from service.rest.app import build
from service.rest.formats import stream_messages
from service.rest.routes import stream
from service.rest.transport.bounded_protocol import BoundedProtocol
from service.rest.transport.bounded_socket import BoundedSocket
from service.serving.streaming.messages import FrameMessage, InvalidMessage, Reset
from service.serving.streaming.session import DropPolicy
from service.telemetry.tracing import Tracer
from tests.unit.rpc.small import SmallEngine, extrapolated, parts, picture

STAGES = ["decode", "queue", "route", "blocks", "encode"]
KEYS = (("anna", "correct-horse"),)


@dataclass(frozen=True, slots=True)
class Live:
    engine: SmallEngine
    parts: AppState
    url: str
    server: uvicorn.Server

    def open(self, **how: Any) -> connect:
        return connect(self.url, max_size=None, compression=None, **how)


@asynccontextmanager
async def live(
    *,
    tracer: Tracer | None = None,
    protocol: type[BoundedSocket] = BoundedSocket,
    message_seconds: float = 60.0,
    **settings: Any,
) -> AsyncIterator[Live]:
    engine = SmallEngine()
    joined = parts(engine, **settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                build(joined, [stream.router(joined)], tracer=tracer),
                http=BoundedProtocol,
                ws=partial(protocol, joined.budget, message_seconds),  # type: ignore[arg-type]
                log_config=None,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )
        serving = asyncio.ensure_future(server._serve([listener]))
        await _until(lambda: server.started)
        yield Live(engine, joined, f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/stream", server)
        server.should_exit = True
        await serving
    joined.codecs.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def _frame(pixels: np.ndarray, name: str = "", **more: Any) -> bytes:
    height, width, _ = pixels.shape
    header = {"type": "frame", "frame_id": name, "height": height, "width": width, **more}
    return stream_messages.packed(header, pixels.tobytes())


def _told(message: str | bytes) -> dict[str, Any]:
    """A message as a dictionary; a prediction's pictures as "pictures"."""
    if isinstance(message, str):
        found: dict[str, Any] = json.loads(message)
        return found
    (size,) = struct.unpack_from("<I", message)
    head: dict[str, Any] = json.loads(message[4 : 4 + size])
    at, pictures = 4 + size, []
    for frame in head["frames"]:
        pictures.append(message[at : at + frame["bytes"]])
        at += frame["bytes"]
    assert at == len(message)
    return {**head, "pictures": pictures}


async def _everything(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """All messages to the end, and the close code."""
    found = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            found.append(_told(await socket.recv()))
    return found, socket.close_code


START = json.dumps({"type": "start", "format": "raw", "policy": "all", "horizon": 2, "scene_cuts": False})


async def test_frames_in_predictions_out_in_order() -> None:
    clip = [picture(n) for n in range(4)]
    async with live() as served, served.open() as socket:
        await socket.send(START)
        for n, pixels in enumerate(clip):
            await socket.send(_frame(pixels, str(n), presentation_time_us=n * 40))
        await socket.send(json.dumps({"type": "end"}))
        answers, code = await _everything(socket)
    assert [(a["frame_id"], a["type"]) for a in answers] == [("0", "first")] + [
        (str(n), "prediction") for n in (1, 2, 3)
    ]
    assert code == 1000
    for n in (1, 2, 3):
        assert answers[n]["pictures"] == [p.tobytes() for p in extrapolated(clip[n - 1], clip[n], 2)]
        assert [frame["presentation_time_us"] for frame in answers[n]["frames"]] == [40 * n + 40, 40 * n + 80]
    assert (answers[1]["model_version"], answers[1]["frames"][0]["route"]) == ("small-1", "1" * 9)


async def test_a_streams_end_is_logged_with_what_became_of_its_frames(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="service.access")
    async with live() as served, served.open() as socket:
        await socket.send(START)
        for n in range(3):
            await socket.send(_frame(picture(n)))
        await socket.send(json.dumps({"type": "end"}))
        await _everything(socket)
        await _until(lambda: any("WEBSOCKET" in record.message for record in caplog.records))
    [told] = [vars(record) for record in caplog.records if "WEBSOCKET" in record.message]
    assert (told["endpoint"], told["outcome"]) == ("/v1/stream", "ok")
    assert (told["frames_first"], told["frames_predicted"]) == (1, 2)


async def test_every_frame_is_a_span_within_the_streams() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    async with live(tracer=tracer) as served, served.open() as socket:
        await socket.send(START)
        for message in (_frame(picture(0)), _frame(picture(1)), stream_messages.packed({}, b"no picture")):
            await socket.send(message)
        await socket.send(json.dumps({"type": "end"}))
        await _everything(socket)
    tracer.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    names = [span.name for span in exporter.get_finished_spans()]
    assert sorted(names) == sorted(["WEBSOCKET /v1/stream", "frame", "frame", *STAGES])
    root, last = spans["WEBSOCKET /v1/stream"].get_span_context(), spans["frame"]
    assert root is not None
    assert last.parent is not None
    assert (last.parent.span_id, last.status.description) == (root.span_id, "unsupported_media")


async def test_without_a_start_images_come_back_as_jpeg() -> None:
    async with live() as served, served.open() as socket:
        for n in range(2):
            file = io.BytesIO()
            Image.fromarray(picture(n)).save(file, "PNG")
            await socket.send(stream_messages.packed({"frame_id": str(n)}, file.getvalue()))
        await socket.send(json.dumps({"type": "end"}))
        answers, _ = await _everything(socket)
    [data] = answers[1]["pictures"]
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size, answers[1]["frames"][0]["media_type"]) == ("JPEG", (48, 32), "image/jpeg")


async def test_messages_that_mean_nothing_cost_one_answer_each() -> None:
    bad: list[str | bytes] = [
        "no json",
        "[]",
        json.dumps({"type": "frame"}),
        b"",
        b"\xff\xff\xff\xff",
        struct.pack("<I", 2) + b"{x",
    ]
    bad_frames = [_frame(picture(0), "x", colour=1), _frame(picture(0), "x", presentation_time_us=2**63)]
    async with live() as served, served.open() as socket:
        await socket.send(START)
        for message in [*bad, *bad_frames, _frame(picture(0), "good")]:
            await socket.send(message)
        await socket.send(json.dumps({"type": "reset"}))
        await socket.send(_frame(picture(1), "after"))
        await socket.send(json.dumps({"type": "end"}))
        answers, code = await _everything(socket)
    assert [answer["type"] for answer in answers] == ["error"] * 8 + ["first", "first"]
    assert {answer["code"] for answer in answers[:8]} == {"invalid_request"}
    assert [answer["why"] for answer in answers[8:]] == ["gap", "reset"]
    assert [answer["frame_id"] for answer in answers[6:]] == ["x", "x", "good", "after"]
    assert code == 1000


@pytest.mark.parametrize(
    ("start", "field"),
    [
        ({"horizon": 0}, "horizon"),
        ({"horizon": True}, "horizon"),
        ({"window": 65}, "window"),
        ({"policy": "some"}, "policy"),
        ({"format": "gif"}, "format"),
        ({"route": "fast"}, "route"),
        ({"image_quality": 101}, "image_quality"),
        ({"image_quality": 90, "format": "png"}, "image_quality"),
        ({"horizon": 1.5}, "horizon"),
        ({"display_phase_us": 5}, "display_phase_us"),
        ({"frame_deadline_ms": 0}, "frame_deadline_ms"),
        ({"scale": 3}, "scale"),
        ({"speed": 1}, "speed"),
    ],
)
async def test_a_start_that_cannot_be_served_is_refused_by_name(start: dict[str, Any], field: str) -> None:
    async with live() as served, served.open() as socket:
        await socket.send(json.dumps({"type": "start", **start}))
        [told], code = await _everything(socket)
    assert (told["type"], told["field"], code) == ("refused", field, 1008)


async def test_a_whole_number_written_with_a_point_is_one_and_a_second_start_is_called_so() -> None:
    async with live() as served, served.open() as socket:
        await socket.send(json.dumps({"type": "start", "horizon": 2.0, "policy": "all"}))
        await socket.send(_frame(picture(0)))
        await socket.send(json.dumps({"type": "start"}))
        for n in range(2):
            await socket.send(_frame(picture(n)))
        await socket.send(json.dumps({"type": "end"}))
        answers, code = await _everything(socket)
    assert [answer["type"] for answer in answers] == ["first", "error", "first", "prediction"]
    assert answers[1]["message"] == "start comes once, before every frame"
    assert (len(answers[3]["pictures"]), code) == (2, 1000)


async def test_who_asks_for_the_stream_as_a_page_is_told_what_it_is() -> None:
    async with live() as served, httpx.AsyncClient() as http:
        answer = await http.get(served.url.replace("ws:", "http:"))
    assert (answer.status_code, answer.json()["field"]) == (400, "Upgrade")
    assert answer.json()["detail"] == "a stream is a WebSocket; open it as one, with Upgrade: websocket"


async def test_leaving_withdraws_what_is_under_way() -> None:
    async with live() as served:
        served.engine.gate.clear()
        async with served.open() as socket:
            await socket.send(START)
            for n in range(2):
                await socket.send(_frame(picture(n)))
            await _until(lambda: served.engine.running == 1)
        await _until(lambda: served.engine.running == 0)
        await _until(lambda: len(served.parts.streams) == 0)
    assert len(served.engine.withdrawn) == 1


async def test_a_draining_server_says_so_last() -> None:
    async with live() as served, served.open() as silent, served.open() as socket:
        await socket.send(START)
        await socket.send(_frame(picture(0), "a"))
        assert _told(await socket.recv())["type"] == "first"
        served.parts.streams.drain()
        answers, code = await _everything(socket)
        assert (answers, code) == ([{"type": "draining"}], 1000)
        assert await _everything(silent) == ([{"type": "draining"}], 1000)
        async with served.open() as late:  # refused before it says anything
            [told], code = await _everything(late)
    assert (told["type"], told["code"], code) == ("refused", "unavailable", 1013)


async def test_where_keys_are_set_a_stream_needs_one_in_a_header_or_a_subprotocol() -> None:
    async with live(api_keys=KEYS) as served:
        for how in ({}, {"subprotocols": ["dmvfn.v1", "bearer.wrong"]}):
            async with served.open(**how) as socket:
                [told], code = await _everything(socket)
                assert (told["type"], told["code"], code) == ("refused", "unauthenticated", 1008)
                assert socket.close_reason == "unauthenticated"
        async with served.open(additional_headers={"Authorization": "Bearer correct-horse"}) as socket:
            await socket.send(json.dumps({"type": "end"}))
            assert await _everything(socket) == ([], 1000)
        async with served.open(subprotocols=["dmvfn.v1", "bearer.correct-horse"]) as socket:
            assert socket.subprotocol == "dmvfn.v1"
            await socket.send(START)
            for n in range(2):
                await socket.send(_frame(picture(n)))
            await socket.send(json.dumps({"type": "end"}))
            await _everything(socket)
    assert [asked.client for asked in served.engine.asked] == ["anna"]


@pytest.mark.parametrize(
    ("origin", "allowed"), [(None, True), ("same", True), ("https://ok.example", True), ("https://evil.example", False)]
)
async def test_only_pages_of_ours_and_of_allowed_origins_may_open_streams(origin: str | None, allowed: bool) -> None:
    async with live(cors_origins=("https://ok.example",)) as served:
        shown = served.url.replace("ws", "http", 1).removesuffix("/v1/stream") if origin == "same" else origin
        refusal = None
        try:
            async with served.open(origin=shown) as socket:
                await socket.send(json.dumps({"type": "end"}))
                assert await _everything(socket) == ([], 1000)
        except InvalidStatus as error:
            refusal = error.response
    assert (refusal is None) is allowed
    if refusal is not None:
        problem = json.loads(refusal.body)
        assert (refusal.status_code, problem["code"], problem["field"]) == (403, "permission_denied", "Origin")


async def test_a_reader_that_stalls_stops_the_reading() -> None:
    """Frames of 2 MB: what sockets buffer is small beside what the client would like to send."""
    side = 832
    frames = [_frame(np.full((side, side, 3), n, np.uint8), str(n)) for n in range(2)]
    async with live() as served, served.open() as socket:
        await socket.send(START)
        sent = 0

        async def push() -> None:
            nonlocal sent
            for _ in range(300):
                await socket.send(frames[sent % 2])
                sent += 1

        pushing = asyncio.ensure_future(push())
        before = -1
        while before != sent:  # until the client can send no more
            before = sent
            await asyncio.wait({pushing}, timeout=0.5)
        assert not pushing.done()
        assert len(served.engine.asked) < 40
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        socket.transport.abort()  # a handshake would wait behind everything unread


# --- messages, without a socket -----------------------------------------------------------------------------------


def test_a_start_carries_every_option() -> None:
    text = json.dumps(
        {
            "type": "start",
            "horizon": 3,
            "window": 4,
            "policy": "all",
            "scene_cuts": False,
            "frame_deadline_ms": 250,
            "format": "webp",
            "image_quality": 70,
            "route": "budget",
            "blocks": 2,
            "scale": 0.5,
            "quality": "adaptive",
        }
    )
    request = stream_messages.start(text, max_steps=4, max_deadline_ms=1000)
    assert request is not None
    assert (request.options.steps, request.options.scale, request.options.quality) == (3, 0.5, Quality.ADAPTIVE)
    assert (request.options.route.blocks, request.plan.window, request.plan.policy) == (2, 4, DropPolicy.ALL)
    assert (request.format, request.image_quality, request.frame_deadline_s) == ("webp", 70, 0.25)


def test_a_start_carries_its_version_beside_its_moments() -> None:
    text = json.dumps({"type": "start", "version": "2026.11.6", "t": [0.5, 2]})
    request = stream_messages.start(text, max_steps=4, max_deadline_ms=1000)
    assert request is not None
    assert (request.options.version, request.options.times) == ("2026.11.6", (0.5, 2.0))


@given(
    st.text(max_size=80)
    | st.binary(max_size=80)
    | st.builds(
        lambda head, tail: stream_messages.packed(head, tail),
        st.dictionaries(
            st.sampled_from([*stream_messages.FRAME, "x"]),
            st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats(),
        ),
        st.binary(max_size=20),
    )
)
def test_any_message_means_something_or_is_the_clients_fault(message: str | bytes) -> None:
    for read in (
        stream_messages.incoming,
        lambda m: stream_messages.start(m, max_steps=4, max_deadline_ms=1000),
        stream_messages.is_end,
    ):
        try:
            found = read(message)
        except ServiceError as error:
            fault = error.code
        else:
            fault = found.error.code if isinstance(found, InvalidMessage) else "none"
            assert isinstance(found, FrameMessage | Reset | InvalidMessage | bool) or found is None
        assert fault in ("none", "invalid_request")


async def test_who_asks_for_a_score_has_it_in_answers_and_in_a_last_message() -> None:
    clip = [np.full((32, 48, 3), 10 * n, np.uint8) for n in range(5)]
    async with live() as served, served.open() as socket:
        await socket.send(json.dumps({**json.loads(START), "horizon": 1, "score": True}))
        for pixels in clip:
            await socket.send(_frame(pixels))
        await socket.send(json.dumps({"type": "end"}))
        (*answers, last), code = await _everything(socket)
    assert [answer["type"] for answer in answers] == ["first"] + ["prediction"] * 4
    assert last["type"] == "summary"
    assert last["frames"] == {"first": 1, "predicted": 4}
    assert last["score"] == {
        "frames": 3,
        "psnr_db": 60.0,
        "gain_db": 31.869,
        "mean_psnr_db": 60.0,
        "mean_gain_db": 31.869,
    }
    assert code == 1000


async def test_who_lets_the_best_be_chosen_is_told_what_predicted() -> None:
    async with live() as served, served.open() as socket:
        await socket.send(json.dumps({**json.loads(START), "horizon": 1, "choose": True}))
        for n in range(2):
            await socket.send(_frame(np.full((32, 48, 3), 10 * n, np.uint8)))
        await socket.send(json.dumps({"type": "end"}))
        (first, prediction), _ = await _everything(socket)
    assert "predictor" not in first
    assert prediction["predictor"] == prediction["method"] == "dmvfn"


async def test_a_concealed_stream_plays_on_through_lost_frames() -> None:
    """The frames come at once; which of them are in time to be shown is the clock's business."""
    async with live() as served, served.open() as socket:
        await socket.send(json.dumps({"type": "start", "format": "raw", "conceal": {"fps": 50, "delay_ms": 200}}))
        for n in (0, 1, 2, 5):
            await socket.send(_frame(np.full((32, 48, 3), 10 * n, np.uint8), str(n), number=n))
        await socket.send(json.dumps({"type": "end"}))
        (*ticks, last), code = await _everything(socket)
    assert [tick["number"] for tick in ticks] == list(range(max(6, len(ticks))))
    assert all(("pictures" in tick) == (tick["source"] in ("predicted", "blended")) for tick in ticks)
    # Motion that has not proved right yet is trusted less the farther it looks.
    levels = {tick["number"]: tick["pictures"][0][0] for tick in ticks if "pictures" in tick}
    assert all(7 * number <= level <= 10 * number for number, level in levels.items()), levels
    assert all(tick["frame_id"] == str(tick["number"]) for tick in ticks if tick["source"] in ("real", "blended"))
    assert sum(last["concealed"]["ticks"].values()) == len(ticks)
    assert code == 1000


@pytest.mark.parametrize(
    ("start", "field"),
    [
        ({"conceal": {}}, "conceal.fps"),
        ({"conceal": {"fps": 0}}, "conceal.fps"),
        ({"conceal": {"fps": "30"}}, "conceal.fps"),
        ({"conceal": {"fps": 30, "most": 17}}, "conceal.most"),
        ({"conceal": {"fps": 30, "moist": 1}}, "conceal"),
        ({"conceal": {"fps": 30, "delay_ms": 1001}}, "conceal.delay_ms"),
        ({"conceal": True}, "conceal"),
        ({"conceal": {"fps": 30}, "t": 0.5}, "t"),
        ({"conceal": {"fps": 30}, "horizon": 2}, "horizon"),
    ],
)
def test_what_cannot_be_concealed_is_refused_by_name(start: dict[str, Any], field: str) -> None:
    with pytest.raises(ServiceError) as raised:
        stream_messages.start(json.dumps({"type": "start", **start}), max_steps=16, max_deadline_ms=1000)
    assert raised.value.field == field
