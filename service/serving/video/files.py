"""Names of files, and - for pipes, to the sources and sinks that fit them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from service.imaging.codec import FrameLimits
from service.serving.video import y4m
from service.serving.video.clip import ClipSink, ClipSource, Item, SoundMode, VideoError
from service.serving.video.y4m import Y4mSink, Y4mSource

PIPE, Y4M = "-", ".y4m"
#: Where frames lie closest they come so much quicker than at the mean: more than how times are rounded.
UNEVEN = Fraction(21, 20)
CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


class FileSource:
    """A clip that owns the file it is read from."""

    def __init__(self, file: BinaryIO, source: ClipSource) -> None:
        self._file, self._source = file, source
        self.info, self.sounds = source.info, list(getattr(source, "sounds", ()))

    def __iter__(self) -> Iterator[Item]:
        return iter(self._source)

    def close(self) -> None:
        """Close the file."""
        self._source.close()
        self._file.close()


def open_source(name: str, *, limits: FrameLimits, sound: bool = True) -> ClipSource:
    """Open a clip: `-` is y4m on standard input; a file tells by its first bytes whether it is y4m."""
    if name == PIPE:
        return Y4mSource(sys.stdin.buffer, limits=limits)
    path = Path(name)
    try:
        # Opened once: a pipe with a name gives its bytes once.
        file = path.open("rb")
    except OSError as error:
        raise VideoError(f"cannot read {name}: {error.strerror}") from error
    try:
        return FileSource(file, _source(file, path, limits=limits, sound=sound))
    except OSError as error:
        file.close()
        raise VideoError(f"cannot read {name}: {error.strerror}") from error
    except BaseException:
        file.close()
        raise


def _source(file: BufferedReader, path: Path, *, limits: FrameLimits, sound: bool) -> ClipSource:
    if file.peek(len(y4m.MAGIC)).startswith(y4m.MAGIC):
        return Y4mSource(file, limits=limits, length=path.stat().st_size if path.is_file() else None)
    from service.serving.video.container_reader import (
        ContainerSource,  # PyAV takes a while to load, and y4m does not need it
    )

    return ContainerSource(path if path.is_file() else file, limits=limits, sound=sound)


class OutFile:
    """A clip that appears under its name when it is whole: stopped half-way, it leaves nothing behind.

    What is there and no file (a named pipe, a device) is written as the clip is made.
    """

    def __init__(self, path: Path, source: ClipSource, width: int, height: int, mode: SoundMode) -> None:
        if path.is_dir():
            raise VideoError(f"{path} is a folder; name a file")
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._is_stream = path.exists() and not path.is_file()
        self._sink: ClipSink
        self._file: BinaryIO | None = None
        suffix = path.suffix.lower()
        if suffix == Y4M:
            self._file = (path if self._is_stream else self._part).open("wb")
            self._sink = y4m_sink(self._file, source, width, height)
        elif suffix in CONTAINERS:
            from service.serving.video.container_writer import ContainerSink

            sounds = list(getattr(source, "sounds", []))
            self._file = path.open("wb") if self._is_stream else None
            target = self._file or self._part
            self._sink = ContainerSink(target, width, height, source.info, suffix=suffix, sounds=sounds, mode=mode)
        else:
            raise VideoError(f"{path.name}: the name must end in {', '.join((Y4M, *CONTAINERS))}")
        self.notes = self._sink.notes

    def write(self, item: Item) -> None:
        """Write the next frame or packet."""
        self._sink.write(item)

    def close(self) -> None:
        """End the file and give it its name: it is whole."""
        self._sink.close()
        if self._file is not None:
            self._file.close()
        if not self._is_stream:
            self._part.replace(self._path)

    def give_up(self) -> None:
        """Delete the partly written file."""
        self._part.unlink(missing_ok=True)


class OutPipe:
    """y4m on standard output."""

    def __init__(self, source: ClipSource, width: int, height: int) -> None:
        # Not sys.stdout.buffer: with PYTHONUNBUFFERED that drops what one system call does not take.
        file = os.fdopen(sys.stdout.fileno(), "wb", closefd=False)
        self._sink = y4m_sink(file, source, width, height)
        self.notes = self._sink.notes

    def write(self, item: Item) -> None:
        """Write the next frame; sound is left out."""
        self._sink.write(item)

    def close(self) -> None:
        """Flush: all is handed over."""
        self._sink.close()

    def give_up(self) -> None:
        """Do nothing: bytes already sent cannot be taken back."""


def y4m_sink(file: BinaryIO, source: ClipSource, width: int, height: int) -> Y4mSink:
    """Begin a y4m stream that shows frames as `source` does."""
    info, notes = source.info, []
    if getattr(source, "sounds", ()):
        notes.append("the sound is left out, as y4m holds none")
    if info.densest is not None and info.densest > info.rate * UNEVEN:
        notes.append(f"frames come at one rate, {float(info.rate):.2f} a second, as y4m holds no times")
    return Y4mSink(file, width, height, info.rate, traits=info.traits, notes=tuple(notes))


def open_sink(
    name: str, source: ClipSource, width: int, height: int, mode: SoundMode = SoundMode.COPY
) -> OutFile | OutPipe:
    """Open an output: `-` is y4m on standard output; else the ending of the name says the container."""
    if name == PIPE:
        return OutPipe(source, width, height)
    try:
        return OutFile(Path(name), source, width, height, mode)
    except OSError as error:
        raise VideoError(f"cannot write {name}: {error.strerror}") from error
