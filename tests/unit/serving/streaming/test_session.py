"""A stream's frames are each answered once, in order, within the window; whatever the order of events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import InvalidFrame, InvalidRequest
from service.core.types import Frame
from service.serving.streaming.session import (
    MAX_UNREAD,
    Answer,
    Done,
    Dropped,
    DropPolicy,
    Failed,
    First,
    FirstReason,
    Session,
    StreamConfig,
)


def _frame(level: int = 0, height: int = 16, width: int = 16) -> Frame:
    return Frame(np.full((height, width, 3), level, np.uint8))


def _session(window: int = 2, policy: DropPolicy = DropPolicy.LATEST, *, scene_cuts: bool = False) -> Session[str]:
    return Session(StreamConfig(window, policy, scene_cuts))


def _drain(session: Session[str]) -> list[tuple[str, object]]:
    """Every answer that is ready, as (frame id, outcome), sent."""
    answers: list[tuple[str, object]] = []
    while (answer := session.ready()) is not None:
        answers.append((answer.tag.frame_id, answer.outcome))
        session.sent()
    return answers


def test_the_first_frame_begins_a_pair_and_the_second_is_predicted_from_it() -> None:
    session = _session()
    older, newer = _frame(1), _frame(2)
    session.push(older, frame_id="a", time_us=0, arrived=1.0)
    session.push(newer, frame_id="b", time_us=40, arrived=2.0)
    [work] = session.take()
    assert (work.previous, work.current, work.pace_us, work.tag.arrived) == (older, newer, 40, 2.0)
    assert _drain(session) == [("a", First(FirstReason.START))]
    outcome = Done("predicted")
    session.finish(work.tag.sequence, outcome)
    assert _drain(session) == [("b", outcome)]
    assert session.idle


def test_answers_keep_their_order_when_predictions_end_out_of_order() -> None:
    session = _session(window=2, policy=DropPolicy.ALL)
    for name in "abc":
        session.push(_frame(), frame_id=name)
        started = session.take()
    session.sent()
    [late] = started
    session.finish(late.tag.sequence, Done("c"))
    assert session.ready() is None
    session.finish(1, Done("b"))
    assert [name for name, _ in _drain(session)] == ["b", "c"]


def test_latest_lets_a_newer_frame_take_the_place_of_one_that_waits() -> None:
    session = _session(window=1)
    for name in "abcd":
        session.push(_frame(), frame_id=name)
        session.take()
    session.finish(1, Done("b"))
    answers = _drain(session)
    assert [name for name, _ in answers] == ["a", "b", "c"]
    assert answers[2] == ("c", Dropped())
    [work] = session.take()
    assert work.tag.frame_id == "d"


def test_a_dropped_frame_still_is_the_predecessor_of_the_next() -> None:
    session = _session(window=1)
    frames = [_frame(level) for level in range(4)]
    for frame in frames:
        session.push(frame)
        session.take()
    session.finish(1, Done(""))
    _drain(session)
    [work] = session.take()
    assert (work.previous, work.current) == (frames[2], frames[3])


def test_under_latest_a_frame_begins_when_the_engine_is_free_and_then_the_newest_does() -> None:
    session = _session(window=2)
    for name in "abcd":
        session.push(_frame(), frame_id=name)
        started = session.take()
        assert [work.tag.frame_id for work in started] == (["b"] if name == "b" else [])
    session.predicted(1)  # on its way out: the engine is free before the answer has left
    [work] = session.take()
    assert work.tag.frame_id == "d"
    session.finish(1, Done("b"))
    assert [name for name, _ in _drain(session)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("window", "policy", "ahead"),
    [
        (1, DropPolicy.LATEST, 1),
        (2, DropPolicy.LATEST, 1),
        (4, DropPolicy.LATEST, 3),
        (1, DropPolicy.ALL, 1),
        (4, DropPolicy.ALL, 4),
    ],
)
def test_how_many_the_engine_has_at_once(window: int, policy: DropPolicy, ahead: int) -> None:
    session = _session(window, policy)
    begun = []
    for _ in range(8):
        if session.accepting:
            session.push(_frame())
            begun += session.take()
    assert len(begun) == ahead


def test_all_stops_reading_instead_of_dropping() -> None:
    session = _session(window=1, policy=DropPolicy.ALL)
    for _ in range(3):
        assert session.accepting
        session.push(_frame())
        session.take()
    assert not session.accepting
    session.finish(1, Done(""))
    _drain(session)
    session.take()
    assert session.accepting


def test_credit_returns_when_the_answer_is_sent_and_not_before() -> None:
    session = _session(window=1, policy=DropPolicy.ALL)
    for _ in range(3):
        session.push(_frame())
    [first] = session.take()
    session.finish(first.tag.sequence, Done(""))
    assert session.take() == []
    _drain(session)
    assert len(session.take()) == 1


def test_reading_stops_when_too_many_answers_are_unread() -> None:
    session = _session()
    while session.accepting:
        session.push(_frame())
        session.take()
    assert session.ready() is not None
    assert len(_drain(session)) <= MAX_UNREAD
    assert session.accepting


@pytest.mark.parametrize(
    ("second", "why"),
    [(_frame(0, height=32), FirstReason.SIZE), (Frame(np.full((16, 16, 3), 255, np.uint8)), FirstReason.SCENE_CUT)],
    ids=["size", "scene cut"],
)
def test_a_frame_that_cannot_follow_begins_a_new_pair(second: Frame, why: FirstReason) -> None:
    session = _session(scene_cuts=True)
    session.push(_frame(0), frame_id="a")
    session.push(second, frame_id="b")
    assert session.take() == []
    assert _drain(session) == [("a", First(FirstReason.START)), ("b", First(why))]


def test_a_reset_is_asked_for_and_said() -> None:
    session = _session()
    session.push(_frame(), frame_id="a")
    session.reset()
    session.push(_frame(), frame_id="b")
    session.push(_frame(), frame_id="c")
    assert _drain(session) == [("a", First(FirstReason.START)), ("b", First(FirstReason.RESET))]
    assert [work.tag.frame_id for work in session.take()] == ["c"]


def test_a_frame_that_failed_is_reported_in_its_place_and_leaves_a_gap() -> None:
    session = _session()
    error = InvalidFrame("damaged", field="frame")
    session.push(_frame(), frame_id="a")
    session.push_failed(error, frame_id="b")
    session.push(_frame(), frame_id="c")
    assert _drain(session) == [("a", First(FirstReason.START)), ("b", Failed(error)), ("c", First(FirstReason.GAP))]


@pytest.mark.parametrize("window", [0, 65, -1])
def test_a_window_out_of_range_is_refused(window: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Session(StreamConfig(window))
    assert refused.value.field == "window"


EVENTS = st.lists(
    st.sampled_from(["push", "push", "bad", "reset", "predicted", "finish", "finish last", "send"]), max_size=120
)


@given(events=EVENTS, window=st.integers(1, 4), policy=st.sampled_from(DropPolicy))
def test_whatever_happens_each_frame_is_answered_once_in_order_within_the_window(
    events: list[str], window: int, policy: DropPolicy
) -> None:
    session = _session(window, policy)
    pushed, unsent = 0, 0
    answered: list[Answer[str]] = []
    begun: list[int] = []

    def send() -> bool:
        nonlocal unsent
        answer = session.ready()
        if answer is None:
            return False
        answered.append(answer)
        unsent -= isinstance(answer.outcome, Done)
        session.sent()
        return True

    for event in events:
        if event in ("push", "bad"):
            if not session.accepting:
                continue
            if event == "push":
                session.push(_frame(), frame_id=str(pushed))
            else:
                session.push_failed(InvalidFrame("bad"), frame_id=str(pushed))
            pushed += 1
        elif event == "reset":
            session.reset()
        elif event == "send":
            send()
        elif event == "predicted":
            for sequence in begun:
                session.predicted(sequence)
        elif begun:
            session.finish(begun.pop(0 if event == "finish" else -1), Done("x"))
        started = session.take()
        begun += [work.tag.sequence for work in started]
        unsent += len(started)
        assert unsent <= window
    while not session.idle:
        while send():
            pass
        begun += [work.tag.sequence for work in session.take()]
        if begun:
            session.finish(begun.pop(), Done("x"))
    assert [answer.tag.frame_id for answer in answered] == [str(n) for n in range(pushed)]
    assert [answer.tag.sequence for answer in answered] == list(range(pushed))
    if policy is DropPolicy.ALL:
        assert not any(isinstance(answer.outcome, Dropped) for answer in answered)
