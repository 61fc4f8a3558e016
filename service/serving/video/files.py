"""Names of files, and - for pipes, to the sources and sinks that fit them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from service.serving.video import y4m
from service.serving.video.clip import ClipSink, ClipSource, Info, Item, VideoError
from service.serving.video.y4m import Y4mSink, Y4mSource

PIPE, Y4M = "-", ".y4m"
CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


class Y4mFile:
    """A y4m file; its length tells how many frames there are."""

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._file = path.open("rb")
        try:
            self._source = Y4mSource(self._file, max_pixels=max_pixels, length=path.stat().st_size)
        except BaseException:
            self._file.close()
            raise
        self.info = self._source.info

    def __iter__(self) -> Iterator[Item]:
        return iter(self._source)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_source(name: str, *, max_pixels: int, sound: bool = True) -> ClipSource:
    """Open a clip: `-` is y4m on standard input; a file tells by its first bytes whether it is y4m."""
    if name == PIPE:
        return Y4mSource(sys.stdin.buffer, max_pixels=max_pixels)
    path = Path(name)
    try:
        with path.open("rb") as file:
            is_y4m = file.read(len(y4m.MAGIC)) == y4m.MAGIC
    except OSError as error:
        raise VideoError(f"cannot read {name}: {error.strerror}") from error
    if is_y4m:
        return Y4mFile(path, max_pixels)
    from service.serving.video.container import ContainerSource  # PyAV takes a while to load, and y4m does not need it

    return ContainerSource(path, max_pixels=max_pixels, sound=sound)


class OutFile:
    """A clip that appears under its name when it is whole: stopped half-way, it leaves nothing behind."""

    def __init__(self, path: Path, source: ClipSource, width: int, height: int) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._sink: ClipSink
        if path.suffix == Y4M:
            self._file = self._part.open("wb")
            self._sink = Y4mSink(self._file, width, height, source.info.rate)
        elif path.suffix in CONTAINERS:
            from service.serving.video.container import ContainerSink

            sounds = list(getattr(source, "sounds", []))
            self._sink = ContainerSink(self._part, width, height, source.info, suffix=path.suffix, sounds=sounds)
        else:
            raise VideoError(f"{path.name}: the name must end in {', '.join((Y4M, *CONTAINERS))}")

    def write(self, item: Item) -> None:
        """Write the next frame or packet."""
        self._sink.write(item)

    def close(self) -> None:
        """End the file and give it its name: it is whole."""
        self._sink.close()
        if self._path.suffix == Y4M:
            self._file.close()
        self._part.replace(self._path)

    def give_up(self) -> None:
        """Delete the partly written file."""
        self._part.unlink(missing_ok=True)


class OutPipe:
    """y4m on standard output."""

    def __init__(self, info: Info, width: int, height: int) -> None:
        self._sink = Y4mSink(sys.stdout.buffer, width, height, info.rate)

    def write(self, item: Item) -> None:
        """Write the next frame; sound is left out."""
        self._sink.write(item)

    def close(self) -> None:
        """Flush: all is handed over."""
        self._sink.close()

    def give_up(self) -> None:
        """Do nothing: bytes already sent cannot be taken back."""


def open_sink(name: str, source: ClipSource, width: int, height: int) -> OutFile | OutPipe:
    """Open an output: `-` is y4m on standard output; else the ending of the name says the container."""
    if name == PIPE:
        return OutPipe(source.info, width, height)
    try:
        return OutFile(Path(name), source, width, height)
    except OSError as error:
        raise VideoError(f"cannot write {name}: {error.strerror}") from error
