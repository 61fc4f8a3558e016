from __future__ import annotations

import io

from service.cli.video_progress import IN_LOG, ON_TERMINAL, Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_tells_speed_and_what_is_left() -> None:
    clock = _Clock()
    progress = Progress(200, io.StringIO(), clock)
    for k in range(50):
        progress.done(k % 2 == 0)
    clock.now += 10
    assert progress.line(clock.now) == "50/200 frames, 25 predicted, 5.0 a second, 0:30 left"


def test_without_a_total_it_tells_what_it_knows() -> None:
    clock = _Clock()
    progress = Progress(None, io.StringIO(), clock)
    progress.done(True)
    clock.now += 2
    assert progress.line(clock.now) == "1 frames, 1 predicted, 0.5 a second"


def test_a_terminal_is_rewritten_often_and_a_log_gets_few_lines() -> None:
    for out, gap in ((_Terminal(), ON_TERMINAL), (io.StringIO(), IN_LOG)):
        clock = _Clock()
        progress = Progress(10, out, clock)
        for _ in range(3):
            clock.now += gap * 0.6
            progress.done(False)
        progress.end()
        assert out.getvalue().count("frames") == 2
        assert out.getvalue().endswith("\n")
