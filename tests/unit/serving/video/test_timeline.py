from __future__ import annotations

from fractions import Fraction

from service.serving.video.timeline import Timeline

FRAME = Fraction(1, 10)


def _times(timeline: Timeline, track: int, times: list[float]) -> list[float]:
    moved = []
    for time in times:
        exact = Fraction(time).limit_denominator(1000)
        moved.append(float(exact - timeline.offset(track, exact, FRAME)))
    return moved


def test_a_broadcast_begins_at_0_and_a_file_where_it_says() -> None:
    assert _times(Timeline(Fraction(36000), is_broadcast=True), 0, [36000.0, 36000.1]) == [0, 0.1]
    assert _times(Timeline(Fraction(36000), is_broadcast=False), 0, [36000.0]) == [0]
    assert _times(Timeline(Fraction(1), is_broadcast=False), 0, [1.0, 1.1]) == [1.0, 1.1]
    assert _times(Timeline(Fraction(-1, 100), is_broadcast=False), 0, [0.0, 0.1]) == [0, 0.1]


def test_a_clock_that_jumps_goes_on() -> None:
    assert _times(Timeline(Fraction(0), is_broadcast=True), 0, [0, 0.1, 50.0, 50.1, 3.0]) == [0, 0.1, 0.2, 0.3, 0.4]


def test_packets_in_the_order_of_their_decoding_are_no_jumps() -> None:
    """Matroska tells only when frames are shown: behind a join, each that is shown before an earlier one jumped."""
    order = [0, 0.3, 0.1, 0.2, 0.6, 0.4, 0.5]
    assert _times(Timeline(Fraction(0), is_broadcast=False), 0, order) == order


def test_a_pause_stays_one() -> None:
    assert _times(Timeline(Fraction(0), is_broadcast=True), 0, [0, 9.0]) == [0, 9.0]
    assert _times(Timeline(Fraction(0), is_broadcast=False), 0, [0, 50.0]) == [0, 50.0]


def test_tracks_pass_a_jump_each_at_its_own_packet_and_stay_in_step() -> None:
    timeline = Timeline(Fraction(0), is_broadcast=True)
    assert _times(timeline, 0, [5.0, 5.1]) == [5.0, 5.1]
    assert _times(timeline, 1, [5.0]) == [5.0]
    assert _times(timeline, 0, [1.0]) == [5.2]
    # The other track is not through with the first part.
    assert _times(timeline, 1, [5.1]) == [5.1]
    # 0.05 before the first track's packet it was, and is.
    assert _times(timeline, 1, [0.95, 1.05]) == [5.15, 5.25]


def test_a_packet_without_a_time_moves_as_the_one_before_it() -> None:
    timeline = Timeline(Fraction(2), is_broadcast=True)
    assert timeline.offset(0, None, FRAME) == 2
