"""How far a video is, how fast, and how long it will take: one line, rewritten on a terminal, rare in a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

#: Seconds between lines.
ON_TERMINAL, IN_LOG = 0.2, 10.0


class Progress:
    """Tell it `done` after each frame. `total` is None where nothing tells how many there are."""

    def __init__(self, total: int | None, out: TextIO, clock: Callable[[], float]) -> None:
        self._total, self._out, self._clock = total, out, clock
        self._terminal = out.isatty()
        self._began = self._last = clock()
        self._frames = self._predicted = 0

    def done(self, is_prediction: bool) -> None:
        """Count one more frame written."""
        self._frames += 1
        self._predicted += is_prediction
        now = self._clock()
        if now - self._last >= (ON_TERMINAL if self._terminal else IN_LOG):
            self._last = now
            self._show(self.line(now))

    def line(self, now: float) -> str:
        """Describe the progress at `now` in one line."""
        seconds = max(now - self._began, 1e-9)
        speed = self._frames / seconds
        text = f"{self._frames} frames" if not self._total else f"{self._frames}/{self._total} frames"
        text += f", {self._predicted} predicted, {speed:.1f} a second"
        if self._total and self._frames and self._total > self._frames:
            remaining = round((self._total - self._frames) / speed)
            text += f", {remaining // 60}:{remaining % 60:02} left"
        return text

    def end(self) -> None:
        """End the display; the last line stays."""
        self._show(self.line(self._clock()))
        if self._terminal:
            print(file=self._out)

    def _show(self, text: str) -> None:
        if self._terminal:
            print(f"\r{text:<78}", end="", file=self._out, flush=True)
        else:
            print(text, file=self._out, flush=True)
