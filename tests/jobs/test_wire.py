from __future__ import annotations

import pickle

import msgpack  # type: ignore[import-untyped]  # it has no annotations and no stubs
import numpy as np
import pytest

from service.core import codec
from service.core.codec import Limits
from service.core.errors import InvalidFrame
from service.core.job import Failure
from service.core.types import Frame, Options, PredictResult, Priority, Quality, RouteChoice, RoutePolicy, Step, Timings
from service.jobs import wire
from tests.core.pictures import file_of, noise
from tests.jobs.engines import MODEL

PIXELS = noise(48, 32)


def test_pixels_stay_pixels() -> None:
    data = wire.frame_bytes(Frame(PIXELS))
    assert len(data) < PIXELS.nbytes + 40
    assert (wire.read_frame(data).pixels == PIXELS).all()


def test_a_file_stays_the_file_it_came_as() -> None:
    file = file_of(PIXELS, "JPEG")
    frame = codec.decode(file, Limits(), "previous")
    data = wire.frame_bytes(frame)
    assert file in data
    assert len(data) < len(file) + 40
    assert (wire.read_frame(data).pixels == frame.pixels).all()


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(RouteChoice(RoutePolicy.SAMPLE, seed=2**53 - 1), 3, 0.25, Quality.ADAPTIVE, True),
        Options(RouteChoice(RoutePolicy.BUDGET, blocks=4)),
        Options(RouteChoice.parse("010010001")),
    ],
)
def test_a_task_comes_back_as_it_went(options: Options) -> None:
    data = wire.task_bytes(options, Priority.BATCH, "ann", "00-trace-01")
    assert wire.read_task(data) == (options, Priority.BATCH, "ann", "00-trace-01")


@pytest.mark.parametrize("compress", [False, True])
def test_a_result_comes_back_as_it_went_under_the_askers_id(compress: bool) -> None:
    flow = np.arange(48 * 32 * 4, dtype=np.float32).reshape(48, 32, 4)
    steps = (Step(Frame(PIXELS), (True, False) * 4 + (True,), 7, flow, flow[..., 0].copy()), Step(Frame(PIXELS), (), 1))
    sent = PredictResult("there", steps, "m1", Timings(1.0, 2.0, 3.0), 4, 5, True)
    got = wire.read_result(wire.result_bytes(sent, compress=compress), "here")
    assert (got.id, got.model_version, got.timings, got.batch_size) == ("here", "m1", Timings(1.0, 2.0, 3.0), 4)
    assert (got.seed, got.shortened) == (5, True)
    for one, two in zip(sent.steps, got.steps, strict=True):
        assert (one.route, one.flops) == (two.route, two.flops)
        assert (one.frame.pixels == two.frame.pixels).all()
    assert got.steps[0].flow is not None
    assert (got.steps[0].flow == flow).all()
    assert got.steps[1].flow is None


def test_failures_and_workers_come_back_as_they_went() -> None:
    failure = Failure("queue_full", "words", "steps", "why", 1.5)
    assert wire.read_failure(wire.failure_bytes(failure)) == failure
    assert wire.read_info(wire.info_bytes(MODEL, 0.5)) == (MODEL, 0.5)


@pytest.mark.parametrize("data", [b"", b"\xc1", pickle.dumps({"v": 1}), msgpack.packb([1]), msgpack.packb({"v": 99})])
def test_what_another_version_or_program_wrote_is_not_read(data: bytes) -> None:
    with pytest.raises(wire.Unreadable):
        wire.read_frame(data)


def test_pixels_that_do_not_fit_their_size_are_refused() -> None:
    data = msgpack.packb({"v": wire.VERSION, "h": 100, "w": 100, "rgb": b"abc"})
    with pytest.raises(InvalidFrame):
        wire.read_frame(data)
