from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from dmvfn_client import (
    NEVER,
    AsyncGrpcClient,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    GrpcClient,
    InvalidInput,
    Kind,
    Picture,
    Shot,
    Unauthenticated,
)
from numpy.typing import NDArray

from tests.system.e2e.process import SAMPLES
from tests.unit.client.serving import Serving

PREVIOUS, CURRENT = SAMPLES / "frame00.png", SAMPLES / "frame01.png"
CLIP = [np.roll(np.random.default_rng(6).integers(0, 256, (32, 48, 3), dtype=np.uint8), k, 1) for k in range(5)]


def test_grpc_and_rest_give_the_same_frame(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc, Client(running.url) as rest:
        a, b = rpc.predict(CLIP[0], CLIP[1]), rest.predict(CLIP[0], CLIP[1])
    assert np.array_equal(a.pixels, b.pixels)
    assert (a.route, a.flops, a.model) == (b.route, b.flops, b.model)


def test_files_steps_maps_and_seeds(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc:
        answer = rpc.predict(PREVIOUS, CURRENT.read_bytes(), steps=2, maps=True, route="sample", seed=3)
    assert (len(answer.frames), answer.seed) == (2, 3)
    assert answer.frames[0].flow is not None
    assert answer.frames[0].flow.shape == (256, 448, 4)


def test_a_stream_answers_every_frame_in_order_as_single_calls_would(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc:
        answers = list(rpc.stream(CLIP, scene_cuts=False))
        assert [answer.kind for answer in answers] == [Kind.FIRST, *[Kind.PREDICTION] * 4]
        assert [answer.frame_id for answer in answers] == ["0", "1", "2", "3", "4"]
        assert answers[0].why == "start"
        last = answers[-1].prediction
        assert last is not None
        assert np.array_equal(last.pixels, rpc.predict(CLIP[3], CLIP[4]).pixels)


def test_a_stream_sums_up_how_good_its_predictions_were(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc:
        *answers, last = list(rpc.stream(CLIP, scene_cuts=False, params={"score": True}))
    assert [answer.kind for answer in answers] == [Kind.FIRST, *[Kind.PREDICTION] * 4]
    assert last.kind is Kind.SUMMARY
    assert last.summary is not None
    assert last.summary.frames == {"first": 1, "predicted": 4}
    assert last.summary.score is not None
    assert last.summary.score.frames == 3


def test_a_stream_that_lets_the_best_be_chosen_says_what_predicted(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc:
        chosen = list(rpc.stream(CLIP[:3], scene_cuts=False, params={"choose": True}))
        named = list(rpc.stream(CLIP[:3], scene_cuts=False))
        with pytest.raises(InvalidInput, match="choose"):
            list(rpc.stream(CLIP[:3], params={"choose": True}, method="flow"))
    default = chosen[-1].prediction
    assert default is not None
    assert [answer.predictor for answer in chosen] == ["", default.method, default.method]
    assert [answer.predictor for answer in named] == ["", "", ""]


def test_a_concealed_stream_plays_on_through_lost_frames(running: Serving) -> None:
    frames = [Shot(CLIP[number], number=number) for number in (0, 1, 2, 4)]
    with GrpcClient(running.grpc) as rpc:
        *ticks, last = list(rpc.stream(frames, params={"conceal": {"fps": 20, "delay_ms": 1000}}))
    shown = [answer.shown for answer in ticks if answer.shown is not None]
    # What is in time on this machine is not said here: each number has its tick, and a picture where it is ours.
    assert [tick.number for tick in shown] == list(range(max(5, len(shown))))
    assert all((tick.pixels is not None) == (tick.source in ("predicted", "blended")) for tick in shown)
    assert last.summary is not None
    assert last.summary.concealed is not None
    assert sum(last.summary.concealed.ticks.values()) == len(shown)


def test_one_bad_frame_is_told_and_the_stream_goes_on(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc:
        answers = list(rpc.stream([CLIP[0], b"no picture", CLIP[1], CLIP[2]], scene_cuts=False))
    assert [answer.kind for answer in answers] == [Kind.FIRST, Kind.ERROR, Kind.FIRST, Kind.PREDICTION]
    assert isinstance(answers[1].error, InvalidInput)
    assert answers[2].why == "gap"


def test_names_times_and_jumps_go_with_the_frames(running: Serving) -> None:
    shots: list[Picture | Shot] = [
        Shot(CLIP[0], "a", 0),
        Shot(CLIP[1], "b", 40_000),
        Shot(CLIP[2], "c", 80_000, jump=True),
        CLIP[3],
    ]
    with GrpcClient(running.grpc) as rpc:
        answers = list(rpc.stream(shots, scene_cuts=False, horizon=2))
    assert [(a.frame_id, a.kind, a.why) for a in answers] == [
        ("a", Kind.FIRST, "start"),
        ("b", Kind.PREDICTION, None),
        ("c", Kind.FIRST, "reset"),
        ("3", Kind.PREDICTION, None),
    ]
    assert [a.time_us for a in answers] == [0, 40_000, 80_000, None]
    predicted = answers[1].prediction
    assert predicted is not None
    assert [frame.time_us for frame in predicted.frames] == [80_000, 120_000]
    assert list(predicted.timings_ms) == ["decode", "queue", "route", "blocks", "encode"]


def test_a_frame_that_cannot_be_in_time_is_an_error_of_its_own(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc:
        answers = list(rpc.stream([PREVIOUS, CURRENT], policy="all", frame_deadline=0.001))
    assert [a.kind for a in answers] == [Kind.FIRST, Kind.ERROR]
    assert isinstance(answers[1].error, DeadlineExceeded)


def _breaking() -> Iterator[NDArray[np.uint8]]:
    yield from CLIP[:2]
    raise OSError("the camera is gone")


def test_what_a_camera_raises_comes_after_the_answers_to_what_it_gave(running: Serving) -> None:
    answers: list[Kind] = []
    with GrpcClient(running.grpc) as rpc:
        with pytest.raises(OSError, match="camera is gone"):
            answers.extend(answer.kind for answer in rpc.stream(_breaking(), scene_cuts=False))
        with pytest.raises(TypeError, match="uint8"):
            list(rpc.stream([CLIP[0], CLIP[1].astype(np.float32)]))  # as newcomers do
    assert answers == [Kind.FIRST, Kind.PREDICTION]


async def test_what_a_camera_raises_comes_through_the_async_client_too(running: Serving) -> None:
    answers = []

    async def listen() -> None:
        async with AsyncGrpcClient(running.grpc) as rpc:
            async for answer in rpc.stream(_breaking(), scene_cuts=False):
                answers.append(answer.kind)

    with pytest.raises(OSError, match="camera is gone"):
        await listen()
    assert answers == [Kind.FIRST, Kind.PREDICTION]


def test_a_stream_that_is_left_stops_taking_frames(running: Serving) -> None:
    taken = 0

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        while True:
            taken += 1
            yield CLIP[taken % 5]

    with GrpcClient(running.grpc) as rpc:
        stream = rpc.stream(endless(), scene_cuts=False)
        for _ in range(3):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert taken < 1000
        assert rpc.predict(CLIP[0], CLIP[1]).pixels.shape == (32, 48, 3)


async def test_the_async_client_predicts_and_streams_from_an_async_source(running: Serving) -> None:
    async def source() -> AsyncIterator[NDArray[np.uint8]]:
        for frame in CLIP:
            yield frame

    async with AsyncGrpcClient(running.grpc) as rpc:
        alone = await rpc.predict(CLIP[0], CLIP[1], steps=2)
        answers = [answer async for answer in rpc.stream(source(), horizon=2, scene_cuts=False)]
    first = answers[1].prediction
    assert first is not None
    assert [np.array_equal(a.pixels, b.pixels) for a, b in zip(first.frames, alone.frames, strict=True)] == [True, True]


def test_errors_carry_code_field_and_request_id(running: Serving) -> None:
    with GrpcClient(running.grpc) as rpc, pytest.raises(InvalidInput) as caught:
        rpc.predict(b"no picture", CURRENT)
    assert (caught.value.code, caught.value.field) == ("unsupported_media", "previous")
    assert caught.value.request_id


def test_keys_deadlines_and_absence(guarded: Serving, running: Serving) -> None:
    with GrpcClient(guarded.grpc) as rpc, pytest.raises(Unauthenticated):
        rpc.predict(CLIP[0], CLIP[1])
    with GrpcClient(guarded.grpc, api_key="correct-horse") as rpc:
        assert rpc.predict(CLIP[0], CLIP[1]).model == "tiny"
    with GrpcClient(running.grpc) as rpc, pytest.raises(DeadlineExceeded):
        rpc.predict(PREVIOUS, CURRENT, steps=16, route="full", timeout=0.02)
    with GrpcClient("127.0.0.1:9", retry=NEVER, timeout=60) as rpc, pytest.raises(ConnectionFailed):
        rpc.predict(CLIP[0], CLIP[1])
