"""Films of every kind, written by PyAV; and what ffprobe (where it is not installed: PyAV) says of one."""

from __future__ import annotations

import functools
import io
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from service.core.types import Frame
from service.imaging.codec import FrameLimits
from service.serving.video.clip import ClipSource, SoundMode, Timed
from service.serving.video.container_writer import ContainerSink
from service.serving.video.files import open_sink, open_source, y4m_sink
from tests.unit.serving.video.clips import moving

LIMITS = FrameLimits(max_pixels=10**6, min_side=2)
UNITS = Fraction(1, 1000)
_FORMATS = {".ts": "mpegts", ".mkv": "matroska", ".m4v": "mp4", ".y4m": "yuv4mpegpipe", ".mpg": "mpeg"}


@dataclass(frozen=True)
class Film:
    """What to write; `times` and `last` (how long the last frame stays) are milliseconds."""

    frames: list[Frame] = field(default_factory=lambda: moving(8, 32, 48))
    times: tuple[int, ...] = tuple(range(0, 800, 100))
    last: int = 100
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("preset", "ultrafast"), ("crf", "4"))
    aspect: Fraction = Fraction(1)
    tags: tuple[int, int, int, int] = (2, 2, 2, 1)  #: primaries, transfer, matrix, range
    coded: int = 0  #: the matrix that is used, where the tag does not say it
    sounds: tuple[tuple[str, int, str], ...] = ()  #: codec, rate, language
    start: int = 0  #: milliseconds


def write(path: Path, film: Film) -> Path:
    """Write the film; the ending of the name says the container."""
    name = _FORMATS.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=name) as container:
        video: Any = container.add_stream(film.codec, rate=10, options=dict(film.options))
        video.width, video.height, video.pix_fmt = film.frames[0].width, film.frames[0].height, film.pix_fmt
        context = video.codec_context
        context.time_base = Fraction(1, 10) if path.suffix in (".avi", ".y4m") else UNITS
        context.sample_aspect_ratio = film.aspect
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = film.tags
        tracks = [_sound(container, *sound) for sound in film.sounds]
        for frame, time in zip(film.frames, film.times, strict=False):
            picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
            picture = picture.reformat(
                format=film.pix_fmt,
                dst_colorspace=film.coded or (5 if film.tags[2] == 2 else film.tags[2]),
                dst_color_range=film.tags[3],
            )
            picture.pts, picture.time_base = film.start + time, UNITS
            _mux(container, video.encode(picture), film)
        for track in tracks:
            _tone(container, track, film)
        _mux(container, video.encode(None), film)
    return path


def _mux(container: Any, packets: list[Any], film: Film) -> None:
    for packet in packets:
        if packet.pts * packet.time_base == (film.start + film.times[len(film.frames) - 1]) * UNITS:
            packet.duration = round(film.last * UNITS / packet.time_base)
        container.mux(packet)


def _sound(container: Any, codec: str, rate: int, language: str) -> Any:
    track = container.add_stream(codec, rate=rate, layout="mono")
    if language:
        track.metadata["language"] = language
    return track


def _tone(container: Any, track: Any, film: Film) -> None:
    rate, length = track.codec_context.sample_rate, (film.times[len(film.frames) - 1] + film.last) / 1000
    for k in range(int(length * rate / 1024)):
        wave = (np.sin(np.arange(1024) * 0.2) * 9000).astype(np.int16)[None]
        samples = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        samples.sample_rate, samples.pts = rate, 1024 * k + film.start * rate // 1000
        samples.time_base = Fraction(1, rate)
        container.mux(track.encode(samples))
    container.mux(track.encode(None))


def copy(source: Path, target: Path, mode: SoundMode = SoundMode.COPY) -> tuple[str, ...]:
    """Read and write as `python -m service video` does, nothing predicted; return what it notes."""
    reader = open_source(str(source), limits=LIMITS, sound=mode is not SoundMode.NONE)
    sink = open_sink(str(target), reader, reader.info.width, reader.info.height, mode)
    for item in reader:
        sink.write(item)
    sink.close()
    reader.close()
    return (*reader.info.notes, *sink.notes)


def stream(source: Path, target: Path, mode: SoundMode = SoundMode.COPY) -> tuple[str, ...]:
    """Do the same as POST /v1/video does: what is written cannot be gone back to."""
    reader = open_source(str(source), limits=LIMITS)
    pieces: list[bytes] = []

    class Outlet(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            pieces.append(bytes(data))
            return len(data)

    size = reader.info.width, reader.info.height
    if target.suffix == ".y4m":
        sink: Any = y4m_sink(Outlet(), reader, *size)  # type: ignore[arg-type]
    else:
        sounds = list(getattr(reader, "sounds", ()))
        sink = ContainerSink(Outlet(), *size, reader.info, suffix=target.suffix, sounds=sounds, mode=mode)  # type: ignore[arg-type]
    for item in reader:
        sink.write(item)
    sink.close()
    reader.close()
    target.write_bytes(b"".join(pieces))
    return (*reader.info.notes, *sink.notes)


def pixels(path: Path) -> list[np.ndarray[Any, Any]]:
    """Return the frames as our reader shows them."""
    reader: ClipSource = open_source(str(path), limits=LIMITS, sound=False)
    frames = [item.frame.pixels for item in reader if isinstance(item, Timed)]
    reader.close()
    return frames


@dataclass(frozen=True)
class Probed:
    """What a judge that is not ours says of a file; times in seconds, colours by FFmpeg's names."""

    size: tuple[int, int]
    aspect: Fraction
    colours: tuple[str, str, str, str]  #: range, matrix, primaries, transfer
    pix_fmt: str
    times: list[float]
    duration: float
    rate: Fraction
    sounds: list[tuple[str, str]]  #: codec, language


def probe(path: Path) -> Probed:
    """Ask ffprobe, or PyAV where it is not installed; once of a file that stays as it is."""
    state = path.stat()
    return _probed(path, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.lru_cache(maxsize=8)
def _probed(path: Path, *state: int) -> Probed:
    return _ffprobe(path) if shutil.which("ffprobe") else _pyav(path)


def _ffprobe(path: Path) -> Probed:
    # One run for all: most of its time is its start.
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", "-show_frames", str(path)]
    film = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    [stream] = [each for each in film["streams"] if each["codec_type"] == "video"]
    sounds = [each for each in film["streams"] if each["codec_type"] == "audio"]
    frames = [frame for frame in film["frames"] if frame["media_type"] == "video"]
    numbers = stream.get("sample_aspect_ratio", "1:1").split(":")
    names = ("color_range", "color_space", "color_primaries", "color_transfer")
    last = frames[-1]
    until = float(last["best_effort_timestamp_time"]) + float(
        last.get("duration_time", last.get("pkt_duration_time", 0))
    )
    return Probed(
        (stream["width"], stream["height"]),
        Fraction(int(numbers[0]), int(numbers[1])) if int(numbers[0]) else Fraction(1),
        tuple(stream.get(name, "unknown") for name in names),
        stream["pix_fmt"],
        [float(frame["best_effort_timestamp_time"]) for frame in frames],
        float(film["format"].get("duration", until)),
        Fraction(stream["r_frame_rate"]),
        [(sound.get("codec_name", "?"), sound.get("tags", {}).get("language", "")) for sound in sounds],
    )


_RANGES = {0: "unknown", 1: "tv", 2: "pc"}
_MATRICES = {1: "bt709", 2: "unknown", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}
_PRIMARIES = {1: "bt709", 2: "unknown", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 12: "smpte432"}
_TRANSFERS = {1: "bt709", 2: "unknown", 6: "smpte170m", 13: "iec61966-2-1", 16: "smpte2084", 18: "arib-std-b67"}


def _pyav(path: Path) -> Probed:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        last: Any = frames[-1]
        colours = (
            _RANGES[int(last.color_range)],
            _MATRICES[int(last.colorspace)],
            _PRIMARIES[int(last.color_primaries)],
            _TRANSFERS[int(last.color_trc)],
        )
        until = float(last.time + last.duration * last.time_base)
        return Probed(
            (stream.width, stream.height),
            stream.sample_aspect_ratio or Fraction(1),
            colours,
            str(stream.pix_fmt),
            [float(frame.time) for frame in frames],
            container.duration / av.time_base if container.duration else until,
            Fraction(stream.guessed_rate or 0),
            [(s.codec_context.name, s.metadata.get("language", "")) for s in container.streams.audio],
        )
