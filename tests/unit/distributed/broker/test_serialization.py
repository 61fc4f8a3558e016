from __future__ import annotations

import dataclasses
import pickle

import msgpack  # type: ignore[import-untyped]  # it has no annotations and no stubs
import numpy as np
import pytest

from service.core.errors import InvalidFrame
from service.core.timings import Timings
from service.core.types import (
    Frame,
    Method,
    Options,
    PredictResult,
    Priority,
    Quality,
    RouteChoice,
    RoutePolicy,
    Step,
)
from service.distributed.broker import announcement, serialization
from service.imaging import codec
from service.imaging.codec import FrameLimits
from service.serving.jobs.job import Failure
from tests.unit.distributed.engines import MODEL
from tests.unit.imaging.pictures import file_of, noise

PIXELS = noise(48, 32)
#: What the last release knew of a task.
BEFORE_MOMENTS = serialization.TASK_FIELDS - {"t", "version"}
BEFORE_METHODS = BEFORE_MOMENTS - {"method"}


def test_pixels_stay_pixels() -> None:
    data = serialization.frame_bytes(Frame(PIXELS))
    assert len(data) < PIXELS.nbytes + 40
    assert (serialization.read_frame(data).pixels == PIXELS).all()


def test_a_file_stays_the_file_it_came_as() -> None:
    file = file_of(PIXELS, "JPEG")
    frame = codec.decode(file, FrameLimits(), "previous")
    data = serialization.frame_bytes(frame)
    assert file in data
    assert len(data) < len(file) + 40
    assert (serialization.read_frame(data).pixels == frame.pixels).all()


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(RouteChoice(RoutePolicy.SAMPLE, seed=2**53 - 1), 3, 0.25, Quality.ADAPTIVE, True),
        Options(RouteChoice(RoutePolicy.BUDGET, blocks=4)),
        Options(RouteChoice.parse("010010001")),
        Options(method=Method.DMVFN),
        Options(times=(0.25, 2.7)),
        Options(method=Method.FLOW, maps=True),
        Options(method=Method.MIX, quality=Quality.ADAPTIVE),
    ],
)
def test_a_task_comes_back_as_it_went(options: Options) -> None:
    data = serialization.task_bytes(options, Priority.BACKGROUND, "ann", "00-trace-01")
    assert serialization.read_task(data) == (options, Priority.BACKGROUND, "ann", "00-trace-01")


@pytest.mark.parametrize("route", ["auto", "full"])
@pytest.mark.parametrize("method", [None, Method.DMVFN])
def test_a_task_of_the_network_is_one_that_every_release_reads(
    monkeypatch: pytest.MonkeyPatch, route: str, method: Method | None
) -> None:
    options = Options(RouteChoice.parse(route), method=method)
    data = serialization.task_bytes(options, Priority.LIVE, "ann", None)
    plain = Options(RouteChoice.parse(route))
    if method is None or route == "full":
        assert data == serialization.task_bytes(plain, Priority.LIVE, "ann", None)
        assert set(msgpack.unpackb(data)) == BEFORE_METHODS - {"notes"}
    monkeypatch.setattr(serialization, "TASK_FIELDS", BEFORE_METHODS)
    monkeypatch.setattr(serialization, "_method", lambda task: None)
    assert serialization.read_task(data)[0] == plain


@pytest.mark.parametrize("method", [Method.FLOW, Method.MIX])
def test_a_release_without_a_method_leaves_its_task_to_others(monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
    data = serialization.task_bytes(Options(method=method), Priority.LIVE, "ann", None)
    dialect = serialization.dialect()
    with pytest.raises(serialization.UnreadableEntry, match="'magic' is not a valid Method"):
        serialization.read_task(msgpack.packb({**msgpack.unpackb(data), "method": "magic"}))
    monkeypatch.setattr(serialization, "TASK_FIELDS", BEFORE_METHODS)
    assert serialization.dialect() != dialect
    with pytest.raises(serialization.UnreadableEntry, match="does not know: method"):
        serialization.read_task(data)


def test_a_release_without_moments_leaves_their_tasks_to_others_and_reads_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = serialization.task_bytes(Options(times=(0.5, 2)), Priority.LIVE, "ann", None)
    plain = serialization.task_bytes(Options(steps=2), Priority.LIVE, "ann", None)
    assert "t" not in msgpack.unpackb(plain)
    for wrong in ("0.5", [0], [-1.0], [float("inf")], [float("nan")], [True], {"t": 1}):
        with pytest.raises(serialization.UnreadableEntry, match="no positive numbers"):
            serialization.read_task(msgpack.packb({**msgpack.unpackb(data), "t": wrong}))
    dialect = serialization.dialect()
    monkeypatch.setattr(serialization, "TASK_FIELDS", BEFORE_MOMENTS)
    assert serialization.dialect() != dialect
    with pytest.raises(serialization.UnreadableEntry, match="does not know: t"):
        serialization.read_task(data)
    assert serialization.read_task(plain)[0] == Options(steps=2)


def test_moments_and_a_cut_come_back_with_their_frames() -> None:
    steps = (Step(Frame(PIXELS), (True,) * 9, 7, t=0.5), Step(Frame(PIXELS), (False,) * 9, 0, t=2.0, is_cut=True))
    sent = PredictResult("there", steps, "m1", Timings())
    got = serialization.read_result(serialization.result_bytes(sent, compress=False), "here")
    assert [(step.t, step.is_cut) for step in got.steps] == [(0.5, False), (2.0, True)]


def test_a_mixtures_result_comes_back_with_its_shares_and_confidence() -> None:
    trust = np.linspace(0, 1, 48 * 32, dtype=np.float32).reshape(48, 32)
    shares = {"projected": 0.75, "still": 0.25}
    step = Step(Frame(PIXELS), (False,) * 9, 7, method=Method.FLOW, shares=shares, confidence=trust)
    sent = PredictResult("there", (step,), "m1", Timings(1.0, 2.0, 0.0, 3.0, 4.0))
    data = serialization.result_bytes(sent, compress=False)
    got = serialization.read_result(data, "here")
    assert (got.method, got.shares, got.timings) == (Method.FLOW, shares, sent.timings)
    assert got.steps[0].confidence is not None
    assert (got.steps[0].confidence == trust).all()
    by_network = dataclasses.replace(sent, steps=(Step(Frame(PIXELS), (True,) * 9, 7),), timings=Timings(1.0, 2.0, 3.0))
    value = msgpack.unpackb(serialization.result_bytes(by_network, compress=False))
    assert set(value["steps"][0]) == {"frame", "route", "flops", "flow", "mask"}
    assert value["timings"] == [1.0, 2.0, 3.0]


def test_a_workers_methods_stand_beside_its_model_where_every_release_ignores_them() -> None:
    model = dataclasses.replace(MODEL, methods=(Method.DMVFN, Method.FLOW), default_method=Method.FLOW, head="2")
    value = msgpack.unpackb(announcement.info_bytes(model, None))
    assert not value["model"].keys() & {"methods", "default_method", "head"}
    assert announcement.read_info(announcement.info_bytes(model, None))[0] == model
    damaged: list[object] = [None, {"all": ["dmvfn", "magic"], "default": "magic"}, {"all": 3}, {"all": [[]]}]
    for methods in damaged:
        read, _ = announcement.read_info(msgpack.packb({**value, "methods": methods}))
        assert (read.methods, read.default_method) == ((Method.DMVFN,), Method.DMVFN)


@pytest.mark.parametrize("compress", [False, True])
def test_a_result_comes_back_as_it_went_under_the_askers_id(compress: bool) -> None:
    flow = np.arange(48 * 32 * 4, dtype=np.float32).reshape(48, 32, 4)
    steps = (Step(Frame(PIXELS), (True, False) * 4 + (True,), 7, flow, flow[..., 0].copy()), Step(Frame(PIXELS), (), 1))
    sent = PredictResult("there", steps, "m1", Timings(1.0, 2.0, 3.0), 4, 5, True)
    got = serialization.read_result(serialization.result_bytes(sent, compress=compress), "here")
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
    assert serialization.read_failure(serialization.failure_bytes(failure)) == failure
    assert announcement.read_info(announcement.info_bytes(MODEL, 0.5)) == (MODEL, 0.5)


@pytest.mark.parametrize("data", [b"", b"\xc1", pickle.dumps({"v": 1}), msgpack.packb([1]), msgpack.packb({"v": 99})])
def test_what_another_version_or_program_wrote_is_not_read(data: bytes) -> None:
    with pytest.raises(serialization.UnreadableEntry):
        serialization.read_frame(data)


def test_pixels_that_do_not_fit_their_size_are_refused() -> None:
    data = msgpack.packb({"v": serialization.VERSION, "h": 100, "w": 100, "rgb": b"abc"})
    with pytest.raises(InvalidFrame):
        serialization.read_frame(data)


def test_a_trial_is_told_where_every_release_may_ignore_it() -> None:
    for options in (Options(), Options(method=Method.DMVFN)):
        data = serialization.task_bytes(options, Priority.LIVE, "ann", None, notes=[serialization.Note.TRIAL])
        plain = serialization.task_bytes(options, Priority.LIVE, "ann", None)
        assert serialization.has_note(data, serialization.Note.TRIAL)
        assert not serialization.has_note(plain, serialization.Note.TRIAL)
        assert serialization.read_task(data) == serialization.read_task(plain)
