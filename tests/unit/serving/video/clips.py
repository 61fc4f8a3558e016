"""Small clips of our own for the tests: noise that moves, so that every frame differs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from service.core.timings import Timings
from service.core.types import Frame, Options, PredictRequest, PredictResult, Step
from service.serving.video.clip import Info, Item, Timed
from service.serving.video.y4m import Y4mSink

HEIGHT, WIDTH = 32, 48


def moving(count: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 3) -> list[Frame]:
    """A smooth picture that moves two pixels to the right a frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return [Frame(np.ascontiguousarray(np.roll(picture, 2 * k, axis=1))) for k in range(count)]


def y4m(frames: list[Frame], rate: Fraction = Fraction(10), chroma: str = "444") -> bytes:
    """As a stream."""
    file = io.BytesIO()
    sink = Y4mSink(file, frames[0].width, frames[0].height, rate, chroma)
    for k, frame in enumerate(frames):
        sink.write(Timed(frame, k))
    sink.close()
    return file.getvalue()


class Held:
    """A source in memory that counts how many of its frames have been taken."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames
        self.taken = 0
        self.info = Info(frames[0].width, frames[0].height, Fraction(10), Fraction(1, 10), len(frames))

    def __iter__(self) -> Iterator[Item]:
        for k, frame in enumerate(self._frames):
            self.taken += 1
            yield Timed(frame, k)

    def close(self) -> None:
        """Nothing is open."""


def answer(frame: Frame, steps: int = 1) -> PredictResult:
    """A result whose every step shows `frame`."""
    step = Step(frame, (True,) * 9, 9)
    return PredictResult("r", (step,) * steps, "test", Timings())


async def shifted(previous: Frame, current: Frame, steps: int) -> PredictResult:
    """The right answer for `moving`: two pixels to the right a step."""
    return answer(Frame(np.ascontiguousarray(np.roll(current.pixels, 2 * steps, axis=1))), steps)


class RightEngine:
    """An engine that knows how `moving` moves."""

    def __init__(self) -> None:
        self.requests: list[PredictRequest] = []

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Shifted by two pixels a step."""
        self.requests.append(request)
        return await shifted(request.previous, request.current, request.options.steps)


def options() -> Options:
    """The defaults."""
    return Options()


def write_mp4(path: Path, frames: list[Frame], pts: list[int], time_base: Fraction, *, sound: bool = False) -> None:
    """A file with these times, made without the code under test; with a tone if `sound`."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"crf": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, "yuv444p"
        video.codec_context.time_base = time_base
        tone = container.add_stream("aac", rate=44100, layout="mono") if sound else None
        for frame, at in zip(frames, pts, strict=True):
            picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
            picture.pts, picture.time_base = at, time_base
            container.mux(video.encode(picture))
        if tone is not None:
            seconds = float((pts[-1] + 1) * time_base)
            for k in range(int(seconds * 44100 / 1024)):
                wave = np.sin(np.arange(1024) * 0.06).astype(np.float32)[None]
                samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 44100, 1024 * k
                container.mux(tone.encode(samples))
            container.mux(tone.encode(None))
        container.mux(video.encode(None))
