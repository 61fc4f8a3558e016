"""The driver of a live stream: order, deadlines, cancellation, drain, and what a stalled reader may cost."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing

import numpy as np
import pytest

from service.app_state import AppState
from service.core.errors import DeadlineExceeded, InvalidFrame, InvalidRequest, QueueFull, ServiceError, Unavailable
from service.core.interfaces import ServedModel
from service.core.size_seconds import REMEMBERED
from service.core.types import Frame, Method, Options, PredictRequest, PredictResult, Quality
from service.imaging.codec import ImageFormat
from service.serving.prediction import EncodedPrediction, Picture
from service.serving.streaming.concealment import Concealment
from service.serving.streaming.live_stream import LiveStream
from service.serving.streaming.messages import (
    Draining,
    FrameMessage,
    Incoming,
    InvalidMessage,
    Reset,
    StreamRequest,
    Summary,
)
from service.serving.streaming.opening import opening
from service.serving.streaming.predictor_choice import NEEDED, TRIED_FIRST
from service.serving.streaming.session import (
    Answer,
    Done,
    Dropped,
    DropPolicy,
    Failed,
    First,
    FirstReason,
    StreamConfig,
)
from service.serving.streaming.show_at import AnswerReceipt, ShowAt
from service.telemetry.metrics import Transport
from tests.unit.rpc.small import SmallEngine, extrapolated, parts, picture

Reply = Answer[EncodedPrediction] | Summary | Draining
ALL = StreamRequest(plan=StreamConfig(policy=DropPolicy.ALL, scene_cuts=False))


def _sent(pixels: np.ndarray, name: str = "", time_us: int | None = None) -> FrameMessage:
    return FrameMessage(Picture(pixels.tobytes(), pixels.shape[:2]), name, time_us)


async def _messages(*messages: Incoming) -> AsyncIterator[Incoming]:
    for message in messages:
        yield message


class _Line:
    """A client's side of a stream: put messages, close, see how much has been taken."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self.taken = 0

    def __aiter__(self) -> AsyncIterator[Incoming]:
        return self._read()

    async def _read(self) -> AsyncIterator[Incoming]:
        while (message := await self.queue.get()) is not None:
            self.taken += 1
            yield message


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


def _stream(joined: AppState, request: StreamRequest = ALL, client: str = "") -> LiveStream:
    return LiveStream(joined, request, Transport.GRPC, client=client, identity="s")


async def test_a_frame_is_decoded_before_what_is_due_later() -> None:
    joined = parts(SmallEngine(), codec_threads=1)
    file = await joined.codecs.encode(Frame(picture(1)), ImageFormat.PNG)
    go_on, decoded = threading.Event(), list[float | None]()

    def hold(nbytes: int) -> None:
        go_on.wait(60)

    def note(nbytes: int) -> None:
        decoded.append(
            joined.metrics.registry.get_sample_value("dmvfn_stage_duration_seconds_count", {"stage": "decode"})
        )

    blocking = joined.codecs.decode(file, "previous", hold)
    jobs = joined.codecs.decode(file, "previous", note)
    request = dataclasses.replace(ALL, frame_deadline_s=20.0)
    answers = asyncio.ensure_future(_all(_stream(joined, request), _messages(FrameMessage(Picture(file), "a"))))
    await _until(lambda: len(joined.codecs._waiting._heap) == 2)
    go_on.set()
    await asyncio.gather(blocking, jobs, answers)
    joined.codecs.close()
    assert decoded == [2.0], "the one that held the thread, and the stream's frame"


async def _all(stream: LiveStream, incoming: AsyncIterable[Incoming]) -> list[Reply]:
    async with aclosing(stream.answers(incoming)) as answers:
        return [answer async for answer in answers]


def _kinds(answers: list[Reply]) -> list[tuple[str, type]]:
    return [(a.tag.frame_id, type(a.outcome)) if isinstance(a, Answer) else ("", type(a)) for a in answers]


async def test_each_frame_is_predicted_from_its_neighbours_and_keeps_name_and_time() -> None:
    engine = SmallEngine()
    frames = [picture(n) for n in range(3)]
    request = StreamRequest(options=Options(steps=2), plan=ALL.plan)
    answers = await _all(
        _stream(parts(engine), request),
        _messages(*(_sent(pixels, f"f{n}", 40_000 * n) for n, pixels in enumerate(frames))),
    )
    assert _kinds(answers) == [("f0", First), ("f1", Done), ("f2", Done)]
    last = answers[2]
    assert isinstance(last, Answer)
    assert isinstance(last.outcome, Done)
    assert last.outcome.value.times_us == (120_000, 160_000)
    assert list(last.outcome.value.pictures) == [p.tobytes() for p in extrapolated(frames[1], frames[2], 2)]


async def test_the_newest_frame_begins_as_soon_as_the_engine_is_free() -> None:
    """While the answer before it is still being encoded and nobody has read it."""
    engine = SmallEngine()
    engine.gate.clear()
    line = _Line()
    latest = StreamRequest(plan=StreamConfig(2, DropPolicy.LATEST, False))
    async with aclosing(_stream(parts(engine), latest).answers(line)) as answers:
        for n in range(5):
            line.queue.put_nowait(_sent(picture(n), str(n)))
        await anext(answers)
        await _until(lambda: line.taken == 5 and engine.running == 1)
        assert [asked.id for asked in engine.asked] == ["s.1"]
        engine.gate.set()
        await _until(lambda: len(engine.asked) == 2)
        line.queue.put_nowait(None)
        kinds = _kinds([answer async for answer in answers])
    assert engine.asked[1].id == "s.4"
    assert kinds == [("1", Done), ("2", Dropped), ("3", Dropped), ("4", Done)]


async def test_an_answer_tells_where_its_time_went() -> None:
    answers = await _all(_stream(parts(SmallEngine())), _messages(_sent(picture(0)), _sent(picture(1))))
    last = answers[1]
    assert isinstance(last, Answer)
    assert isinstance(last.outcome, Done)
    took = dict(last.outcome.value.stages)
    assert list(took) == ["decode", "queue", "route", "blocks", "encode"]
    assert (took["route"], took["blocks"]) == (0.002, 0.003)
    assert took["queue"] >= 0.001
    assert min(took.values()) >= 0


async def test_one_bad_message_costs_one_error_and_the_stream_goes_on() -> None:
    bad = InvalidMessage(InvalidFrame("no picture", field="frame"), "b")
    answers = await _all(
        _stream(parts(SmallEngine())),
        _messages(
            _sent(picture(0), "a"),
            bad,
            FrameMessage(Picture(b"not an image"), "c"),
            _sent(picture(1), "d"),
            _sent(picture(2), "e" * 257),
            _sent(picture(3), "f"),
            _sent(picture(4), "g"),
        ),
    )
    kinds = _kinds(answers)
    assert kinds[:4] == [("a", First), ("b", Failed), ("c", Failed), ("d", First)]
    assert kinds[4:] == [("e" * 256, Failed), ("f", First), ("g", Done)]


async def test_an_engine_error_and_a_bug_end_one_frame_each() -> None:
    engine = SmallEngine()
    engine.failure = RuntimeError("a bug")
    answers = await _all(_stream(parts(engine)), _messages(_sent(picture(0)), _sent(picture(1))))
    last = answers[-1]
    assert isinstance(last, Answer)
    assert isinstance(last.outcome, Failed)
    assert (last.outcome.error.code, "a bug" in last.outcome.error.message) == ("internal", False)


async def test_a_jump_begins_a_new_pair() -> None:
    answers = await _all(
        _stream(parts(SmallEngine())), _messages(_sent(picture(0), "a"), Reset(), _sent(picture(1), "b"))
    )
    assert [a.outcome for a in answers if isinstance(a, Answer)] == [First(FirstReason.START), First(FirstReason.RESET)]


async def test_requests_carry_the_earlier_of_the_frames_and_the_streams_deadline() -> None:
    engine = SmallEngine()
    joined = parts(engine)
    now = joined.clock()
    for request in (
        StreamRequest(plan=ALL.plan, frame_deadline_s=5.0),
        StreamRequest(plan=ALL.plan, frame_deadline_s=500.0, deadline=now + 7.0),
        ALL,
    ):
        await _all(_stream(joined, request), _messages(_sent(picture(0)), _sent(picture(1))))
    deadlines = [asked.deadline - now for asked in engine.asked if asked.deadline is not None]
    assert deadlines == pytest.approx([5.0, 7.0, joined.settings.default_deadline_ms / 1000], abs=1.0)
    assert deadlines[0] >= 5.0


async def test_an_adaptive_frame_gets_the_time_that_its_encoding_leaves() -> None:
    engine = SmallEngine()
    joined = dataclasses.replace(parts(engine), clock=lambda: 100.0)
    for _ in range(REMEMBERED):
        joined.codecs.learn_encoding(Frame(picture(0)), ALL.format, 0.125)
    for quality in (Quality.ADAPTIVE, Quality.EXACT):
        request = StreamRequest(Options(quality=quality), plan=ALL.plan, frame_deadline_s=60.0)
        await _all(_stream(joined, request), _messages(_sent(picture(0)), _sent(picture(1))))
    assert [asked.deadline for asked in engine.asked] == [159.875, 160.0]


async def test_leaving_withdraws_what_is_under_way() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    joined = parts(engine)
    line = _Line()
    for n in range(3):
        line.queue.put_nowait(_sent(picture(n)))
    async with aclosing(_stream(joined).answers(line)) as answers:
        await anext(answers)
        await _until(lambda: engine.running == 2)
    assert sorted(engine.withdrawn) == ["s.1", "s.2"]
    assert (len(joined.streams), joined.streams.held) == (0, 0)


async def test_a_draining_stream_answers_what_it_took_and_says_goodbye() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    joined = parts(engine)
    line = _Line()
    for n in range(2):
        line.queue.put_nowait(_sent(picture(n), str(n)))
    everything = asyncio.create_task(_all(_stream(joined), line))
    await _until(lambda: engine.running == 1)
    joined.streams.drain()
    with pytest.raises(Unavailable):
        await _all(_stream(joined), _messages())
    engine.gate.set()
    assert _kinds(await everything) == [("0", First), ("1", Done), ("", Draining)]
    async with asyncio.timeout(60):
        await joined.streams.ended()


async def test_an_idle_stream_says_goodbye_at_once_when_the_server_drains() -> None:
    joined = parts(SmallEngine())
    everything = asyncio.create_task(_all(_stream(joined), _Line()))
    await _until(lambda: len(joined.streams) == 1)
    joined.streams.drain()
    assert _kinds(await everything) == [("", Draining)]


@pytest.mark.parametrize("policy", DropPolicy)
async def test_a_reader_that_stalls_stops_the_reading(policy: DropPolicy) -> None:
    engine = SmallEngine()
    line = _Line()
    joined = parts(engine)
    async with aclosing(_stream(joined, StreamRequest(plan=StreamConfig(2, policy, False))).answers(line)) as answers:
        for n in range(2000):
            line.queue.put_nowait(_sent(picture(n % 2)))
        first = asyncio.ensure_future(anext(answers))
        await first
        before = -1
        while before != line.taken:  # until nothing moves any more, though nobody reads
            before = line.taken
            for _ in range(200):
                await asyncio.sleep(0)
        assert line.taken < 300
        assert len(engine.asked) == 2
        for _ in range(line.taken - 1):
            answer = await anext(answers)
            assert isinstance(answer, Answer)
            assert isinstance(answer.outcome, Done | Dropped)


async def test_a_stream_without_frames_for_too_long_is_ended() -> None:
    joined = parts(SmallEngine(), stream_idle_s=0.01)
    with pytest.raises(DeadlineExceeded) as ended:
        await _all(_stream(joined), _Line())
    assert ended.value.reason == "idle"


@pytest.mark.parametrize(
    ("settings", "client", "code"),
    [({"max_streams": 1}, "", "queue_full"), ({"max_client_streams": 1}, "anna", "client_limit")],
)
async def test_streams_beyond_the_limit_are_refused(settings: dict[str, int], client: str, code: str) -> None:
    joined = parts(SmallEngine(), **settings)
    opened = asyncio.create_task(_all(_stream(joined, client=client), _Line()))
    await _until(lambda: len(joined.streams) == 1)
    with pytest.raises(ServiceError) as refused:
        await _all(_stream(joined, client=client), _messages())
    assert (refused.value.code, refused.value.retry_after is not None) == (code, True)
    opened.cancel()
    await asyncio.gather(opened, return_exceptions=True)
    assert await _all(_stream(joined, client=client), _messages()) == []


async def test_frames_beyond_what_streams_may_hold_are_refused_one_by_one() -> None:
    small, large = picture(0, 16, 16), picture(0, 32, 32)
    joined = parts(SmallEngine(), max_stream_bytes=2 * small.nbytes)
    answers = await _all(
        _stream(joined), _messages(_sent(large, "a"), _sent(small, "b"), _sent(small, "c"), _sent(large, "d"))
    )
    assert _kinds(answers) == [("a", Failed), ("b", First), ("c", Done), ("d", Failed)]
    assert isinstance(answers[0], Answer)
    assert isinstance(answers[0].outcome, Failed)
    assert isinstance(answers[0].outcome.error, QueueFull)


async def test_answers_beyond_what_streams_may_owe_are_refused_one_by_one() -> None:
    """A client that asks for much and reads nothing: sixteen frames for each it sends, a window of sixty-four."""
    engine = SmallEngine()
    frame = picture(0, 16, 16)
    joined = parts(engine, max_stream_bytes=3 * 2 * 16 * frame.nbytes)
    greedy = StreamRequest(options=Options(steps=16), plan=StreamConfig(64, DropPolicy.ALL, False))
    line = _Line()
    for n in range(10):
        line.queue.put_nowait(_sent(picture(n, 16, 16), str(n)))
    line.queue.put_nowait(None)
    async with aclosing(_stream(joined, greedy).answers(line)) as answers:
        await anext(answers)
        await _until(lambda: line.taken == 10)
        await _until(lambda: len(engine.asked) == 3 and engine.running == 0)
        assert joined.streams.owed == joined.settings.max_stream_bytes
        rest = _kinds([answer async for answer in answers])
    assert [kind for _, kind in rest] == [Done] * 3 + [Failed] * 6
    assert (joined.streams.owed, joined.streams.held) == (0, 0)


async def test_who_opens_a_stream_and_says_nothing_is_counted_and_told_to_leave() -> None:
    joined = parts(SmallEngine(), max_streams=1)
    silent = asyncio.create_task(opening(joined, "", asyncio.Event().wait()))
    await _until(lambda: len(joined.streams) == 1)
    with pytest.raises(QueueFull):
        await opening(joined, "", asyncio.sleep(0))
    joined.streams.drain()
    assert await silent == Draining()
    assert len(joined.streams) == 0


async def test_a_first_message_that_never_comes_is_not_waited_for_for_ever() -> None:
    with pytest.raises(DeadlineExceeded) as ended:
        await opening(parts(SmallEngine(), stream_idle_s=0.01), "", asyncio.Event().wait())
    assert ended.value.reason == "idle"


def _value(joined: AppState, name: str, **labels: str) -> float:
    return joined.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_frames_are_counted_by_outcome_and_streams_while_open() -> None:
    joined = parts(SmallEngine())
    await _all(_stream(joined), _messages(_sent(picture(0)), _sent(picture(1)), FrameMessage(Picture(b"x"))))
    counts = [_value(joined, "dmvfn_stream_frames_total", outcome=o) for o in ("first", "predicted", "error")]
    assert counts == [1.0, 1.0, 1.0]
    assert _value(joined, "dmvfn_first_frame_seconds_count") == 1.0
    assert _value(joined, "dmvfn_streams_active", transport="grpc") == 0.0


async def test_a_stream_is_told_how_good_its_predictions_were() -> None:
    """SmallEngine goes on linearly, and so do the frames: every prediction but that of the last frame is exact."""
    frames = [np.full((32, 48, 3), 10 * n, np.uint8) for n in range(6)]
    state = parts(SmallEngine())
    request = StreamRequest(plan=ALL.plan, score=True)
    *answers, last = await _all(_stream(state, request), _messages(*(_sent(pixels) for pixels in frames)))
    assert isinstance(last, Summary)
    assert last.frames == {"first": 1, "predicted": 5}
    assert last.score is not None
    assert (last.score.frames, last.score.mean_psnr_db) == (4, 60.0)
    repeated = 10 * np.log10(255**2 / 100)
    assert last.score.mean_gain_db == pytest.approx(60 - repeated)
    assert all(isinstance(answer, Answer) for answer in answers)
    labels = {"method": "dmvfn", "version": "small-1", "ahead": "1"}
    assert state.metrics.registry.get_sample_value("dmvfn_stream_psnr_db_count", labels) == 4
    assert state.metrics.registry.get_sample_value("dmvfn_stream_repeated_psnr_db_sum", labels) == pytest.approx(
        4 * repeated
    )
    state.metrics.stream_quality.gone("small-1")
    assert state.metrics.registry.get_sample_value("dmvfn_stream_psnr_db_count", labels) is None


class _Predictors(SmallEngine):
    """By flow a frame goes on as the two before it did; the network, the default, shows the last one again."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        result = await super().predict(request)
        if request.options.method is Method.FLOW:
            return result
        return dataclasses.replace(result, steps=(dataclasses.replace(result.steps[0], frame=request.current),))

    def model(self) -> ServedModel:
        return dataclasses.replace(super().model(), methods=(Method.DMVFN, Method.FLOW))


async def test_the_predictor_that_scores_best_takes_over_and_answers_say_which_it_was() -> None:
    state, line, predictors = parts(_Predictors()), _Line(), list[str]()
    request = StreamRequest(plan=ALL.plan, choose=True)
    async with aclosing(_stream(state, request).answers(line)) as answers:
        for number in range(4 * TRIED_FIRST * NEEDED):
            line.queue.put_nowait(_sent(np.full((32, 48, 3), 2 * number % 250, np.uint8)))
            answer = await anext(answers)
            if isinstance(answer, Answer) and isinstance(answer.outcome, Done):
                predictors.append(answer.outcome.value.predictor)
            await asyncio.sleep(0)  # a trial may end
    assert predictors[0] == "dmvfn"
    assert predictors[-1] == "flow", "and the live head, which is no better, does not take over from it"
    change = predictors.index("flow")
    assert (set(predictors[:change]), set(predictors[change:])) == ({"dmvfn"}, {"flow"})
    labels = {"predictor": "flow"}
    assert state.metrics.registry.get_sample_value("dmvfn_stream_predictor_changes_total", labels) == 1


def test_a_choice_goes_with_nothing_that_names_a_predictor() -> None:
    for field, options in (
        ("method", Options(method=Method.FLOW)),
        ("method", Options(method=Method.FLOW, quality=Quality.FAST)),
        ("route", Options.parse(blocks=2)),
        ("scale", Options(scale=0.5)),
    ):
        with pytest.raises(InvalidRequest) as refused:
            StreamRequest(options, choose=True).check()
        assert refused.value.field == field
    with pytest.raises(InvalidRequest) as refused:
        StreamRequest(conceal=Concealment(30), choose=True).check()
    assert refused.value.field == "conceal"


async def test_who_asks_for_no_score_gets_no_last_message() -> None:
    answers = await _all(_stream(parts(SmallEngine())), _messages(_sent(picture(0)), _sent(picture(1))))
    assert _kinds(answers) == [("", First), ("", Done)]
    assert [answer.score for answer in answers if isinstance(answer, Answer)] == [None, None]


async def test_a_stream_predicts_for_when_its_frames_are_seen() -> None:
    """Frames 40 ms apart that are to be seen 60 ms after they are sent, 2 ms after their capture: t = 1.55."""
    state = parts(SmallEngine())
    request = StreamRequest(plan=ALL.plan, show=ShowAt("now", 60_000))
    line = _Line()
    async with aclosing(_stream(state, request).answers(line)) as answers:
        replies: list[Answer[EncodedPrediction]] = []
        for n in range(3):
            pixels = np.full((32, 48, 3), 20 * n, np.uint8)
            receipt = None
            if n == 2:  # the way takes a millisecond
                show = replies[1].show
                assert show is not None
                assert (show.aimed_us, show.miss_us) == ((102_000,), None)
                receipt = AnswerReceipt(1, show.replied_us - show.received_us + 43_000)
            sent = _sent(pixels, str(n), 40_000 * n)
            line.queue.put_nowait(dataclasses.replace(sent, sent_us=40_000 * n + 2_000, receipt=receipt))
            reply = await anext(answers)
            assert isinstance(reply, Answer)
            replies.append(reply)
    last = replies[-1]
    assert isinstance(last.outcome, Done)
    assert last.outcome.value.result.times == (1.55,)
    assert last.outcome.value.times_us == (142_000,)
    assert last.outcome.value.pictures[0][0] == 40 + round(20 * 1.55)
    assert last.show is not None
    assert last.show.aimed_us == (142_000,)
    assert last.show.miss_us is not None  # the link is known; what it is depends on this machine
    count = state.metrics.registry.get_sample_value("dmvfn_stream_show_late_seconds_count")
    assert count == 1


async def test_a_frame_without_the_times_that_its_aim_needs_fails_alone() -> None:
    request = StreamRequest(plan=ALL.plan, show=ShowAt("now"))
    frames = (_sent(picture(0), "a", 0), _sent(picture(1), "b", 40_000), _sent(picture(2), "c"))
    answers = await _all(_stream(parts(SmallEngine()), request), _messages(*frames))
    outcomes = [answer.outcome for answer in answers if isinstance(answer, Answer)]
    fields = [outcome.error.field for outcome in outcomes if isinstance(outcome, Failed)]
    assert fields == ["sent_us", "presentation_time_us"]
