"""dmvfn.v1 over a real connection: pairs, streams, and everything a client may get wrong."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Callable, Iterable
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2 as details_pb2
from grpc_status import rpc_status
from PIL import Image

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from service.core.errors import Unavailable
from service.core.types import Quality, RoutePolicy
from service.rpc.message_reading import peer_address
from tests.unit.rpc.serving import Served, served
from tests.unit.rpc.small import SmallEngine, extrapolated, picture


def _raw(pixels: np.ndarray, name: str = "", time_us: int | None = None) -> pb.Frame:
    height, width, _ = pixels.shape
    frame = pb.Frame(frame_id=name, raw=pb.RawPicture(pixels=pixels.tobytes(), height=height, width=width))
    if time_us is not None:
        frame.presentation_time_us = time_us
    return frame


def _png(pixels: np.ndarray) -> pb.Frame:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return pb.Frame(encoded=file.getvalue())


def _request(**options: Any) -> pb.PredictRequest:
    return pb.PredictRequest(previous=_raw(picture(0)), current=_raw(picture(1)), options=pb.Options(**options))


def _frames(frames: Iterable[pb.Frame]) -> list[pb.StreamPredictRequest]:
    return [pb.StreamPredictRequest(frame=frame) for frame in frames]


def _outcomes(answers: Iterable[pb.StreamPredictResponse]) -> list[tuple[str, str | None]]:
    return [(answer.frame_id, answer.WhichOneof("outcome")) for answer in answers]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_a_pair_is_answered_with_its_frames_and_what_they_took() -> None:
    async with served(SmallEngine()) as s:
        older, newer = picture(0), picture(1)
        answer = await s.ours.Predict(
            pb.PredictRequest(
                request_id="mine",
                previous=_raw(older, "a", 0),
                current=_raw(newer, "b", 40_000),
                options=pb.Options(steps=2, blocks=3),
            )
        )
    expected = extrapolated(older, newer, 2)
    assert (answer.request_id, answer.frame_id) == ("mine", "b")
    assert [frame.raw.pixels for frame in answer.prediction.frames] == [pixels.tobytes() for pixels in expected]
    assert [frame.presentation_time_us for frame in answer.prediction.frames] == [80_000, 120_000]
    first = answer.prediction.frames[0]
    assert (first.route, first.flops, first.encoding) == ("111000000", 1000, pb.ENCODING_RAW)
    assert (first.raw.height, first.raw.width, first.raw.stride) == (32, 48, 144)
    assert (answer.prediction.model_version, answer.prediction.timings.route) == ("small-1", 0.002)


async def test_without_keys_an_address_takes_turns_as_one_client() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        await s.ours.Predict(_request())
    assert engine.asked[0].client == "address 127.0.0.1"


async def test_a_stream_is_a_client_of_its_own_but_where_an_address_is_counted() -> None:
    engine = SmallEngine()
    pair = [pb.StreamPredictRequest(frame=_request().previous), pb.StreamPredictRequest(frame=_request().current)]
    start = pb.StreamPredictRequest(start=pb.StreamStart(scene_cuts=False))
    for limit in (0, 5):
        async with served(engine, max_client_items=limit) as s:
            call = s.ours.StreamPredict(iter([start, *pair]), metadata=(("x-request-id", "the-stream"),))
            assert len([answer async for answer in call]) == 2
    assert [request.client for request in engine.asked] == ["the-stream", "address 127.0.0.1"]


async def test_a_trusted_proxy_says_whose_turn_it_is() -> None:
    engine = SmallEngine()
    for proxies in ((), ("127.0.0.1",)):
        async with served(engine, trusted_proxies=proxies) as s:
            await s.ours.Predict(_request(), metadata=(("x-forwarded-for", "198.51.100.1"),))
    assert [request.client for request in engine.asked] == ["address 127.0.0.1", "address 198.51.100.1"]


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.7:5123", "10.0.0.7"), ("ipv6:%5B::1%5D:41", "::1"), ("ipv6:[fe80::1]:41", "fe80::1"), ("unix:", "")],
)
def test_an_address_is_read_from_grpcs_name_of_a_peer(peer: str, address: str) -> None:
    assert peer_address(peer) == address


async def test_images_in_and_out_keep_their_pixels_and_strides_are_read() -> None:
    older, newer = picture(0), picture(1)
    padded = np.pad(newer, ((0, 0), (0, 5), (0, 0)))
    strided = pb.Frame(raw=pb.RawPicture(pixels=padded.tobytes(), height=32, width=48, stride=53 * 3))
    async with served(SmallEngine()) as s:
        answer = await s.ours.Predict(
            pb.PredictRequest(previous=_png(older), current=strided, options=pb.Options(encoding=pb.ENCODING_PNG))
        )
    [frame] = answer.prediction.frames
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(frame.encoded))), extrapolated(older, newer, 1)[0])


async def test_every_option_reaches_the_engine() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        answer = await s.ours.Predict(
            _request(route="sample", seed=7, scale=0.5, quality=pb.QUALITY_ADAPTIVE, maps=True), timeout=60
        )
        await s.ours.Predict(_request(route="sample"))
    options = engine.asked[0].options
    assert (options.route.policy, options.route.seed) == (RoutePolicy.SAMPLE, 7)
    assert (options.scale, options.quality, options.maps) == (0.5, Quality.ADAPTIVE, True)
    assert answer.prediction.seed == 7
    maps = answer.prediction.frames[0].maps
    assert (len(maps.flow), np.frombuffer(maps.mask, "<f4").tolist()) == (32 * 48 * 16, [0.5] * 32 * 48)
    drawn = engine.asked[1].options.route.seed
    assert drawn is not None, "a drawn seed is reported"


async def test_the_calls_deadline_is_the_requests_and_its_default_is_the_servers() -> None:
    engine = SmallEngine()
    async with served(engine, default_deadline_ms=60_000) as s:
        now = s.parts.clock()
        await s.ours.Predict(_request(), timeout=20)
        await s.ours.Predict(_request())
    first, second = (asked.deadline for asked in engine.asked)
    assert first is not None
    assert second is not None
    assert now < first < now + 21
    assert now + 60 <= second < now + 80


async def test_a_cancelled_call_and_a_passed_deadline_leave_the_queue() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    async with served(engine) as s:
        call = s.ours.Predict(_request())
        await _until(lambda: engine.running == 1)
        call.cancel()
        await _until(lambda: engine.running == 0)
        for seconds in (0.3, 3.0, 30.0):  # a busy machine may not bring it to the engine sooner
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await s.ours.Predict(_request(), timeout=seconds)
            assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            await _until(lambda: engine.running == 0)
            if len(engine.asked) > 1:
                break
        registry = s.parts.metrics.registry
        for outcome in ("cancelled", "deadline"):
            labels = {"transport": "grpc", "endpoint": "Predict", "outcome": outcome}
            await _until(lambda of=labels: registry.get_sample_value("dmvfn_requests_total", of) == 1.0)  # type: ignore[misc]
    assert len(engine.withdrawn) == 2


WRONG: list[tuple[pb.PredictRequest, str]] = [
    (pb.PredictRequest(), "previous.picture"),
    (pb.PredictRequest(previous=_raw(picture(0)), current=pb.Frame()), "current.picture"),
    (pb.PredictRequest(previous=_raw(picture(0)), current=_raw(picture(1, 48, 32))), "current"),
    (pb.PredictRequest(previous=pb.Frame(encoded=b"GIF89a"), current=_raw(picture(1))), "previous"),
    (pb.PredictRequest(previous=pb.Frame(raw=pb.RawPicture(height=2**31, width=2**31))), "current.picture"),
    (_request(steps=0), "options.steps"),
    (_request(steps=2**32 - 1), "options.steps"),
    (_request(route="fast"), "options.route"),
    (_request(route="000000000"), "options.route"),
    (_request(seed=2**64 - 1), "options.seed"),
    (_request(blocks=10), "options.blocks"),
    (_request(scale=float("nan")), "options.scale"),
    (_request(encoding=99), "options.encoding"),
    (_request(quality=-5), "options.quality"),
    (_request(image_quality=0), "options.image_quality"),
    (_request(image_quality=90), "options.image_quality"),
    (_request(image_quality=90, encoding=pb.ENCODING_PNG), "options.image_quality"),
    (pb.PredictRequest(previous=pb.Frame(frame_id="x" * 257), current=_raw(picture(0))), "previous.frame_id"),
]


@pytest.mark.parametrize(("message", "field"), WRONG, ids=[field for _, field in WRONG])
async def test_what_is_wrong_is_named_in_the_details(message: pb.PredictRequest, field: str) -> None:
    async with served(SmallEngine()) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.Predict(message)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _details(refused.value, details_pb2.BadRequest).field_violations[0].field == field


def _details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    [status] = [value for key, value in error.trailing_metadata() or () if key == rpc_status.GRPC_DETAILS_METADATA_KEY]
    whole = rpc_status.status_pb2.Status.FromString(status)
    assert (whole.code, whole.message) == (error.code().value[0], error.details())
    for packed in whole.details:
        found = kind()
        if packed.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__} in {whole}")


async def test_a_busy_server_says_when_to_try_again() -> None:
    engine = SmallEngine()
    engine.failure = Unavailable("draining", reason="draining", retry_after=2.5)
    async with served(engine) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.Predict(_request())
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert _details(refused.value, details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 2500
    assert _details(refused.value, details_pb2.ErrorInfo).reason == "DRAINING"


async def test_a_bug_is_internal_and_tells_only_the_request_id() -> None:
    engine = SmallEngine()
    engine.failure = RuntimeError("a secret")
    async with served(engine) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.Predict(pb.PredictRequest(request_id="r-1", previous=_raw(picture()), current=_raw(picture())))
    assert refused.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in (refused.value.details() or "")
    assert _details(refused.value, details_pb2.RequestInfo).request_id == "r-1"


# --- streams ------------------------------------------------------------------------------------------------------


async def test_a_streams_predictions_equal_those_of_single_calls() -> None:
    clip = [picture(n) for n in range(12)]
    start = pb.StreamStart(horizon=2, policy=pb.POLICY_ALL, scene_cuts=False)
    async with served(SmallEngine()) as s:
        messages = [pb.StreamPredictRequest(start=start), *_frames(_raw(f, str(n)) for n, f in enumerate(clip))]
        answers = [answer async for answer in s.ours.StreamPredict(iter(messages))]
        single = [
            await s.ours.Predict(
                pb.PredictRequest(previous=_raw(older), current=_raw(newer), options=pb.Options(steps=2))
            )
            for older, newer in itertools.pairwise(clip)
        ]
    assert _outcomes(answers) == [("0", "first")] + [(str(n), "prediction") for n in range(1, 12)]
    assert [answer.sequence for answer in answers] == list(range(12))
    streamed = [[frame.raw.pixels for frame in answer.prediction.frames] for answer in answers[1:]]
    assert streamed == [[frame.raw.pixels for frame in answer.prediction.frames] for answer in single]


async def test_messages_that_mean_nothing_cost_one_answer_each() -> None:
    messages = [
        *_frames([_raw(picture(0), "a")]),
        pb.StreamPredictRequest(),
        pb.StreamPredictRequest(start=pb.StreamStart()),
        *_frames([pb.Frame(frame_id="e"), _raw(picture(1, 48, 32), "b"), _raw(picture(2, 48, 32), "c", 2**63 - 1)]),
        pb.StreamPredictRequest(reset=pb.Reset()),
        *_frames([_raw(picture(3), "d")]),
    ]
    async with served(SmallEngine()) as s:
        answers = [answer async for answer in s.ours.StreamPredict(iter(messages))]
    assert _outcomes(answers) == [
        ("a", "first"),
        ("", "error"),
        ("", "error"),
        ("e", "error"),
        ("b", "first"),
        ("c", "prediction"),
        ("d", "first"),
    ]
    assert answers[3].error.field == "frame.picture"
    assert answers[3].error.status == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [answers[n].first.reason for n in (0, 4, 6)] == [
        pb.First.REASON_START,
        pb.First.REASON_GAP,
        pb.First.REASON_RESET,
    ]


async def test_times_that_overflow_are_left_out() -> None:
    async with served(SmallEngine()) as s:
        start = pb.StreamPredictRequest(start=pb.StreamStart(scene_cuts=False))
        frames = _frames([_raw(picture(0), "a", -(2**63)), _raw(picture(1), "b", 2**63 - 1)])
        answers = [answer async for answer in s.ours.StreamPredict(iter([start, *frames]))]
    [frame] = answers[1].prediction.frames
    assert answers[1].presentation_time_us == 2**63 - 1
    assert not frame.HasField("presentation_time_us")


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (pb.StreamStart(window=0), "start.window"),
        (pb.StreamStart(window=65), "start.window"),
        (pb.StreamStart(horizon=0), "start.horizon"),
        (pb.StreamStart(horizon=17), "start.horizon"),
        (pb.StreamStart(options=pb.Options(route="fast")), "start.options.route"),
        (pb.StreamStart(policy=cast(pb.Policy, 9)), "start.policy"),
        (pb.StreamStart(options=pb.Options(steps=1)), "start.options.steps"),
        (pb.StreamStart(frame_deadline_ms=0), "start.frame_deadline_ms"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_start_that_cannot_be_served_ends_the_stream_and_says_why(start: pb.StreamStart, field: str) -> None:
    async with served(SmallEngine()) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.StreamPredict(iter([pb.StreamPredictRequest(start=start)])).read()
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _details(refused.value, details_pb2.BadRequest).field_violations[0].field == field


async def _open(s: Served, count: int) -> list[Any]:
    streams = []
    for _ in range(count):
        stream = s.ours.StreamPredict()
        await stream.write(pb.StreamPredictRequest(frame=_raw(picture(0))))
        await stream.read()
        streams.append(stream)
    return streams


async def test_sixty_four_idle_streams_lock_nobody_out() -> None:
    async with served(SmallEngine()) as s:
        idle = await _open(s, 64)
        assert len(s.parts.streams) == 64
        await s.ours.Predict(_request(), timeout=60)
        other = await _open(s, 1)
        for stream in idle + other:
            stream.cancel()
        await _until(lambda: len(s.parts.streams) == 0)


async def test_a_broken_stream_harms_no_other() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        broken, healthy = await _open(s, 2)
        engine.gate.clear()
        for stream in (broken, healthy):
            await stream.write(pb.StreamPredictRequest(frame=_raw(picture(0), "next")))
        await _until(lambda: engine.running == 2)
        broken.cancel()
        await _until(lambda: engine.running == 1)
        engine.gate.set()
        assert (await healthy.read()).WhichOneof("outcome") == "prediction"
        await healthy.done_writing()
        assert await healthy.read() is grpc.aio.EOF
        assert await healthy.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("policy", [pb.POLICY_LATEST, pb.POLICY_ALL])
async def test_a_reader_that_stalls_costs_bounded_memory(policy: pb.Policy) -> None:
    """Frames and answers of 2 MB; the client writes without reading until HTTP/2 lets no more through."""
    frames = [_raw(np.full((832, 832, 3), n, np.uint8), str(n)) for n in range(2)]
    engine = SmallEngine()
    async with served(engine) as s:
        stream = s.ours.StreamPredict()
        await stream.write(pb.StreamPredictRequest(start=pb.StreamStart(policy=policy, scene_cuts=False)))
        sent = 0

        async def push() -> None:
            nonlocal sent
            for _ in range(600):
                await stream.write(pb.StreamPredictRequest(frame=frames[sent % 2]))
                sent += 1

        pushing = asyncio.ensure_future(push())
        before = -1
        while before != sent and not pushing.done():  # until nothing moves any more
            before = sent
            await asyncio.wait({pushing}, timeout=1.0)
        # What is predicted must be kept until it is read: a few in the window, a few in the connection's buffers.
        assert len(engine.asked) < 20
        assert s.parts.streams.held <= frames[0].ByteSize()
        if policy == pb.POLICY_ALL:
            assert not pushing.done(), "lossless streams push back"
        pushing.cancel()
        stream.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        await _until(lambda: len(s.parts.streams) == 0)
        assert s.parts.streams.held == 0


async def test_streams_beyond_the_limit_are_refused_with_a_time_to_come_back() -> None:
    async with served(SmallEngine(), max_streams=1) as s:
        [stream] = await _open(s, 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.StreamPredict(iter(_frames([_raw(picture(0))]))).read()
        stream.cancel()
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _details(refused.value, details_pb2.RetryInfo).retry_delay.seconds == 5


async def test_draining_ends_every_stream_with_a_last_message() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        silent = s.ours.StreamPredict()  # has not said anything yet
        await _until(lambda: len(s.parts.streams) == 1)
        idle, busy = await _open(s, 2)
        engine.gate.clear()
        await busy.write(pb.StreamPredictRequest(frame=_raw(picture(0), "last")))
        await _until(lambda: engine.running == 1)
        draining = asyncio.create_task(s.server.drain(20))
        for stream in (silent, idle):
            assert (await stream.read()).WhichOneof("outcome") == "draining"
            assert await stream.read() is grpc.aio.EOF
        engine.gate.set()
        assert [(await busy.read()).WhichOneof("outcome") for _ in range(2)] == ["prediction", "draining"]
        assert await busy.code() == grpc.StatusCode.OK
        await draining
