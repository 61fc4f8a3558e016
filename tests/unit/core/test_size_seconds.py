"""What work on a frame takes, by size: what is reckoned with before, after and in spite of single slow tries."""

from __future__ import annotations

from service.core.size_seconds import REMEMBERED, SIZES, SizeSeconds


def test_before_a_size_was_measured_its_pixels_count() -> None:
    seconds = SizeSeconds(0.5, 0.01, 2.0)
    assert [seconds.expect(1, 0), seconds.expect(10, 10), seconds.expect(1000, 1000)] == [0.5, 1.5, 2.0]


def test_one_slow_try_in_sixteen_says_nothing_and_many_do() -> None:
    seconds = SizeSeconds(0.5, 0.01, 2.0)
    for value in [0.1] * (REMEMBERED - 1) + [1.0]:
        seconds.learn(4, 4, value)
    assert seconds.expect(4, 4) == 0.1
    for _ in range(REMEMBERED):
        seconds.learn(4, 4, 60.0)
    assert seconds.expect(4, 4) == 2.0, "at most so much is learnt of one"


def test_so_many_sizes_are_remembered() -> None:
    seconds = SizeSeconds(0.5, 0.0, 2.0)
    for side in range(SIZES + 1):
        seconds.learn(side, side, 1.0)
    assert [seconds.expect(0, 0), seconds.expect(1, 1)] == [0.5, 1.0]
