"""Frames for when they are seen: the clocks' offset by four stamps, aims and misses, exactly."""

from __future__ import annotations

import pytest

from service.core.errors import InvalidRequest
from service.serving.streaming.link_clock import LinkClock, LinkSample
from service.serving.streaming.show_at import AnswerReceipt, ShowAt, ShowReport, ShowTimes

#: The client's clock is 5 s behind ours; a frame takes 20 ms to come, an answer 20 ms to go.
OFFSET, ONE_WAY = 5_000_000, 20_000


def exchange(times: ShowTimes, sequence: int, captured: int, pace: int, took: int = 10_000) -> tuple[float, ...]:
    """One frame, sent 2 ms after its capture, and its answer and receipt; return the moments."""
    sent = captured + 2_000
    received = sent + ONE_WAY + OFFSET
    times.arrived(sequence, sent, received)
    moments = times.aim(sequence, captured, pace)
    times.replying(sequence, received + took)
    times.receipt(AnswerReceipt(sequence, received + took - OFFSET + ONE_WAY))
    return moments


def test_four_stamps_tell_offset_and_delay() -> None:
    link = LinkClock()
    assert link.arrival_us(0) is None
    link.add(sent_us=100, received_us=5_120, replied_us=5_150, answered_us=170)
    assert link.best == LinkSample(offset_us=5_000, delay_us=40)
    assert link.arrival_us(6_000) == 1_020


def test_of_the_last_samples_the_shortest_way_counts() -> None:
    link = LinkClock()
    link.add(0, 5_020, 5_020, 40)
    link.add(1_000, 6_900, 6_900, 1_920)  # the frame waited somewhere
    assert link.best == LinkSample(5_000, 40)
    link.add(0, 0, 100, 50)  # impossible: the answer left after it came
    assert link.best == LinkSample(5_000, 40)
    for _ in range(8):
        link.add(0, 5_900, 5_900, 920)
    assert link.best is not None
    assert link.best.delay_us == 920


def test_now_and_80_ms_is_counted_from_when_the_frame_was_sent() -> None:
    """Captured at 0, sent at 2 ms, seen at 82 ms: 2.05 intervals of 40 ms."""
    wish = ShowAt.parse("now+80ms", None, None)
    assert wish is not None
    times = ShowTimes(wish)
    assert exchange(times, 0, 0, 40_000) == pytest.approx((2.05,))


def test_at_arrival_the_link_and_the_services_own_time_are_learnt() -> None:
    """From the second frame on: 2 ms to send, 20 ms here, 10 ms at work, 20 ms back: 52 ms after its capture."""
    wish = ShowAt.parse("arrival", None, None)
    assert wish is not None
    times = ShowTimes(wish)
    exchange(times, 0, 0, 40_000)
    assert exchange(times, 1, 40_000, 40_000) == pytest.approx((52 / 40,))
    times.arrived(2, 82_000, 82_000 + ONE_WAY + OFFSET)
    assert times.aim(2, 80_000, 40_000) == pytest.approx((52 / 40,))
    report = times.replying(2, 82_000 + ONE_WAY + OFFSET + 13_000)
    assert report == ShowReport((132_000,), 102_000 + OFFSET, 115_000 + OFFSET, 3_000)
    assert times.receipt(AnswerReceipt(2, 136_000)) == 4_000


def test_a_display_gets_a_frame_for_each_of_its_ticks_until_the_next_answer() -> None:
    """At 100 a second, ticks at 3 ms and each 10 ms after: those from 52 ms on, before 92 ms."""
    wish = ShowAt.parse(None, 100, 3_000)
    assert wish is not None
    times = ShowTimes(wish)
    exchange(times, 0, -40_000, 40_000)
    moments = exchange(times, 1, 0, 40_000)
    assert [round(40 * t, 6) for t in moments] == [53, 63, 73, 83]


def test_a_moment_that_cannot_be_predicted_is_the_nearest_that_can() -> None:
    wish = ShowAt.parse("now+2000ms", None, None)
    assert wish is not None
    assert exchange(ShowTimes(wish), 0, 0, 10_000) == (16.0,)


def test_what_is_needed_and_was_not_sent_is_named() -> None:
    wish = ShowAt.parse("now", None, None)
    assert wish is not None
    times = ShowTimes(wish)
    times.arrived(0, None, 0)
    for capture, pace, field in (
        (None, None, "presentation_time_us"),
        (0, 0, "presentation_time_us"),
        (0, 1, "sent_us"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            times.aim(0, capture, pace)
        assert raised.value.field == field


@pytest.mark.parametrize(
    ("text", "fps", "field"),
    [("soon", None, "show_at"), ("now+2001ms", None, "show_at"), ("now", 60, "show_at"), (None, 0.5, "display_fps")],
)
def test_a_wish_that_means_nothing_is_refused_by_name(text: str | None, fps: float | None, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        ShowAt.parse(text, fps, None)
    assert raised.value.field == field


def test_a_phase_without_its_display_is_refused() -> None:
    for text in (None, "now"):
        with pytest.raises(InvalidRequest, match="display_phase_us means nothing without display_fps"):
            ShowAt.parse(text, None, 5)


def test_answers_without_receipts_cost_bounded_memory() -> None:
    times = ShowTimes(ShowAt())
    for sequence in range(2000):
        times.arrived(sequence, sequence, sequence)
    assert len(times._open) == 1024
    assert times.replying(0, 0) is None


def test_a_receipt_of_an_answer_that_has_not_left_changes_nothing() -> None:
    times = ShowTimes(ShowAt("now", 80_000))
    times.arrived(0, 2_000, 0)
    assert times.receipt(AnswerReceipt(0, 5)) is None
    assert times.aim(0, 0, 40_000) == pytest.approx((2.05,))
