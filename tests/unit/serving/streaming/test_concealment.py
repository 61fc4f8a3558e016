"""A steady clock over a stream with losses: what each tick shows, exactly, and freezes as WebRTC counts them."""

from __future__ import annotations

import numpy as np
import pytest

from service.core.errors import InvalidRequest
from service.core.types import Frame
from service.serving.streaming.concealment import (
    SLOWER,
    Concealer,
    Concealment,
    LeadingPair,
    NumberedFrame,
    Tick,
    TickSource,
)
from service.serving.streaming.freezes import FreezeCounter

REAL, BLENDED, PREDICTED, REPEATED = TickSource


def flat(value: int) -> Frame:
    return Frame(np.full((4, 6, 3), value, np.uint8))


def arrive(concealer: Concealer, number: int, now: float, value: int | None = None) -> LeadingPair | None:
    """Push a frame of grey `value` (10 a number), and at once what is predicted from its pair: the same going on."""
    pair = concealer.arrived(NumberedFrame(number, flat(10 * number if value is None else value), f"f{number}"), now)
    if pair is not None:
        old, new = (side.frame.pixels.astype(float) for side in (pair.previous, pair.current))
        concealer.predicted(pair, [Frame((new + t * (new - old)).round().astype(np.uint8)) for t in pair.times])
    return pair


def shown(tick: Tick) -> tuple[int, TickSource, int | None]:
    picture = tick.picture()
    return tick.number, tick.source, None if picture is None else int(picture.pixels[0, 0, 0])


#: Frames by which predictions that are right come to be trusted.
TRUSTED = 15


def test_lost_frames_are_predicted_on_the_beat_and_real_ones_faded_in() -> None:
    """Three frames are lost; the one after comes 6 grey levels darker than the motion led to, and is not jumped to."""
    concealer = Concealer(Concealment(fps=10, blend=2, delay_s=0.05))
    ticks = []
    for number in range(TRUSTED + 7):
        place = number - TRUSTED
        if place not in (0, 1, 2):
            arrive(concealer, number, 0.1 * number, 10 * number - (6 if place > 0 else 0))
        due = concealer.due()
        assert due == pytest.approx(0.1 * number + 0.05)
        ticks.append(shown(concealer.tick()))
    assert ticks[:TRUSTED] == [(number, REAL, 10 * number) for number in range(TRUSTED)]
    assert [source for _, source, _ in ticks[TRUSTED:]] == [PREDICTED] * 3 + [BLENDED] * 2 + [REAL] * 2
    values = [value for _, _, value in ticks[TRUSTED:]]
    assert values[:3] == [150, 160, 170]
    # The trust in what looks four ticks ahead begins to fall with frame 18.
    assert values[3:] == [pytest.approx(178, abs=1), pytest.approx(186, abs=1), 194, 204]


def test_what_is_far_ahead_stands_still_in_part_until_it_has_proved_right() -> None:
    concealer = Concealer(Concealment(fps=10))
    arrive(concealer, 0, 0.0)
    arrive(concealer, 1, 0.1)
    values = [shown(concealer.tick()) for _ in range(5)]
    assert values[2:] == [(2, PREDICTED, 20), (3, PREDICTED, 28), (4, PREDICTED, 34)]


def test_predictions_of_motion_that_never_comes_give_way_to_the_picture_that_stands() -> None:
    """What flickers between two pictures is predicted to go on by each; nothing of that is ever right."""
    concealer = Concealer(Concealment(fps=10))
    for number in range(40):
        arrive(concealer, number, 0.1 * number, 100 + 20 * (number % 2))
        assert concealer.tick().source is REAL
    assert [shown(concealer.tick())[1] for _ in range(3)] == [REPEATED] * 3


def test_from_the_second_frame_on_a_loss_shows_what_two_pairs_led_to() -> None:
    concealer = Concealer(Concealment(fps=10))
    for number, value in enumerate((0, 10, 30)):
        pair = arrive(concealer, number, 0.1 * number, value)
    assert pair is not None
    ticks = [concealer.tick() for _ in range(5)][3:]
    assert [[int(frame.pixels[0, 0, 0]) for frame, _ in tick.parts] for tick in ticks] == [[50], [70, 40, 30]]
    assert [round(float(weight.mean()), 2) for _, weight in ticks[1].parts] == [0.72, 0.18, 0.1]


def test_what_an_older_pair_led_to_counts_only_where_no_pair_between_is_missing() -> None:
    """It may have been the one across a cut, whose prediction failed."""
    concealer = Concealer(Concealment(fps=10))
    arrive(concealer, 0, 0.0, 200)
    arrive(concealer, 1, 0.1, 201)
    assert concealer.arrived(NumberedFrame(2, flat(10)), 0.2) is not None  # and nothing is heard of it
    arrive(concealer, 3, 0.3, 40)
    ticks = [concealer.tick() for _ in range(6)][4:]
    assert [[int(frame.pixels[0, 0, 0]) for frame, _ in tick.parts] for tick in ticks] == [[70], [100, 40]]


def test_what_stands_still_keeps_standing_where_only_a_part_moves() -> None:
    """The left half moves as predicted; of the right half it was never true."""
    concealer, picture = Concealer(Concealment(fps=10)), np.full((64, 96, 3), 100, np.uint8)
    for number in range(15):
        pixels = picture.copy()
        pixels[:, :48] += np.uint8(8 * number)
        pair = concealer.arrived(NumberedFrame(number, Frame(pixels)), 0.1 * number)
        concealer.tick()
        if pair is not None:
            concealer.predicted(pair, [Frame(pixels + np.uint8(8 * t)) for t in range(1, 5)])
    for ahead in (1, 2, 3):
        shown_picture = concealer.tick().picture()
        assert shown_picture is not None
        left, right = (shown_picture.pixels[:, columns].astype(int) for columns in (slice(36), slice(60, None)))
        assert np.abs(left - (100 + 8 * (14 + ahead))).max() <= 1
        assert np.abs(right - 100).max() <= 8 * ahead / 3


def test_after_a_gap_the_moments_are_parts_of_the_longer_interval() -> None:
    concealer = Concealer(Concealment(fps=10, most=3))
    arrive(concealer, 0, 0.0)
    pair = arrive(concealer, 4, 0.4)
    assert pair is not None
    assert pair.times == (0.25, 0.5, 0.75)


def test_after_the_most_that_may_be_predicted_nothing_new_is_shown() -> None:
    concealer = Concealer(Concealment(fps=10, most=2))
    arrive(concealer, 0, 0.0)
    arrive(concealer, 1, 0.1)
    assert [concealer.tick().source for _ in range(6)] == [REAL, REAL, PREDICTED, PREDICTED, REPEATED, REPEATED]
    arrive(concealer, 6, 0.6)
    assert shown(concealer.tick()) == (6, REAL, 60)


def test_a_pair_that_nothing_leads_on_from_repeats() -> None:
    concealer = Concealer(Concealment(fps=10))
    concealer.arrived(NumberedFrame(0, flat(0)), 0.0)
    pair = concealer.arrived(NumberedFrame(1, flat(250)), 0.1)
    assert pair is not None
    concealer.predicted(pair, ())
    assert [concealer.tick().source for _ in range(3)] == [REAL, REAL, REPEATED]


def test_a_late_frame_is_not_shown_but_leads_on() -> None:
    concealer = Concealer(Concealment(fps=10, most=1))
    arrive(concealer, 0, 0.0)
    arrive(concealer, 1, 0.1)
    assert [concealer.tick().source for _ in range(3)] == [REAL, REAL, PREDICTED]
    arrive(concealer, 2, 0.29, 26)
    assert shown(concealer.tick()) == (3, PREDICTED, 42)


def test_a_jump_of_the_sender_begins_anew_and_memory_stays_bounded() -> None:
    concealer = Concealer(Concealment(fps=10))
    arrive(concealer, 0, 0.0)
    assert arrive(concealer, 10**12, 5.0, value=1) is None
    assert concealer.tick().number == 10**12
    for number in range(200):
        arrive(concealer, 10**12 + 2 + number, 5.1, value=1)
    assert concealer.nbytes <= (64 + 2 + 4 * 9) * 4 * 6 * 3


def test_the_clock_follows_a_sender_whose_own_is_slower() -> None:
    """By a thousandth: after 2,000 frames it would be two intervals off."""
    concealer = Concealer(Concealment(fps=10, delay_s=0.05))
    sources = []
    for number in range(2000):
        arrive(concealer, number, 0.1001 * number, value=1)
        due = concealer.due()
        assert due is not None
        assert 0 < due - 0.1001 * number < 0.06
        sources.append(concealer.tick().source)
    assert set(sources) == {REAL}


def ticks_of(arrivals: list[tuple[int, float]], end: float, delay_s: float | None = None) -> list[Tick]:
    """Push frames as they come, (number, seconds), and take every tick that is due before `end`."""
    concealer, ticks = Concealer(Concealment(fps=10, delay_s=delay_s)), list[Tick]()
    for number, now in [*arrivals, (-1, end)]:
        while (due := concealer.due()) is not None and due < now:
            ticks.append(concealer.tick())
        if number >= 0:
            arrive(concealer, number, now, value=100 + number)
    return ticks


def test_a_link_that_has_become_slower_is_waited_for_once() -> None:
    """From frame 20 on each comes 1.7 intervals later than before; 66 ticks showed none, until all began anew."""
    arrivals = [(number, 0.1 * number + (0.17 if number >= 20 else 0.0)) for number in range(60)]
    ticks = ticks_of(arrivals, 6.0)
    assert [tick.number for tick in ticks] == list(range(len(ticks)))
    missed = [tick.number for tick in ticks if tick.source in (PREDICTED, REPEATED)]
    assert missed[0] == 20
    assert len(missed) <= SLOWER + 2
    assert ticks[-1].source is REAL
    gaps = np.diff([tick.due for tick in ticks])
    assert gaps.max() == pytest.approx(0.1 + 0.17, abs=0.02), "one tick stays longer"
    assert (gaps > 0.11).sum() == 1


def test_it_is_waited_for_whatever_delay_is_allowed() -> None:
    """Frames may come 9 intervals after their times, and come 10.7 after; only 8 are predicted in a row."""
    arrivals = [(number, 0.1 * number + (1.07 if number >= 20 else 0.0)) for number in range(60)]
    ticks = ticks_of(arrivals, 7.0, delay_s=0.9)
    assert len([tick for tick in ticks if tick.source in (PREDICTED, REPEATED)]) <= SLOWER + 2


def test_a_few_late_frames_are_not_waited_for() -> None:
    arrivals = [(number, 0.1 * number + (0.17 if 20 <= number < 20 + SLOWER - 1 else 0.0)) for number in range(50)]
    ticks = ticks_of(sorted(arrivals, key=lambda arrival: arrival[1]), 5.0)
    assert np.diff([tick.due for tick in ticks]).max() < 0.11


def test_a_sender_that_begins_anew_is_not_waited_for() -> None:
    arrivals = [(number + (100 if number < 20 else -20), 0.1 * number) for number in range(120)]
    ticks = ticks_of(arrivals, 12.0)
    assert np.diff([tick.due for tick in ticks]).max() < 0.2
    assert ticks[-1].source is REAL


@pytest.mark.parametrize(
    ("config", "field"),
    [(Concealment(0.5), "fps"), (Concealment(30, most=17), "most"), (Concealment(30, blend=9), "blend")],
)
def test_what_cannot_be_is_refused_by_name(config: Concealment, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        config.check()
    assert raised.value.field == f"conceal.{field}"


def test_freezes_are_counted_as_webrtc_does() -> None:
    """At 30 a second a gap of 5 intervals is none (its mean and 150 ms are more); one of 9 is, with all its length."""
    counter = FreezeCounter()
    interval = 1 / 30
    numbers = [*range(30), *range(34, 60), *range(68, 90)]
    frozen = [counter.shown(number * interval) for number in numbers]
    assert [round(seconds, 6) for seconds in frozen if seconds] == [round(9 * interval, 6)]
    report = counter.report()
    assert report.count == 1
    assert (report.total_s, report.watched_s) == pytest.approx((9 * interval, 89 * interval))
