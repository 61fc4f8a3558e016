"""When the parts of an edit list are shown, by the times that a decoder tells."""

from __future__ import annotations

from service.serving.video.edit_parts import EditParts
from service.serving.video.timeline import REORDERED

FRAME = 10


def test_a_part_that_comes_late_or_early_by_the_decoders_delay_begins_where_the_last_one_ended() -> None:
    parts = EditParts(FRAME)
    assert [parts.moved(0, time, FRAME) for time in (0, 10, 20)] == [0, 10, 20]
    late = 30 + REORDERED * FRAME
    assert [parts.moved(1, time, FRAME) for time in (late, late + 10)] == [30, 40]
    assert [parts.moved(2, time, 0) for time in (35, 45)] == [50, 60]


def test_a_pause_between_two_parts_stays_one() -> None:
    parts = EditParts(FRAME)
    parts.moved(0, 0, FRAME)
    behind = 10 + REORDERED * FRAME + 5
    assert [parts.moved(1, time, FRAME) for time in (behind, behind + 10)] == [behind, behind + 10]


def test_frames_of_one_part_keep_their_distances() -> None:
    parts = EditParts(FRAME)
    times = [0, 10, 45, 50, 52]
    assert [parts.moved(0, time, 0) for time in times] == times
