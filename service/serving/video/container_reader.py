"""Reads MP4, Matroska, WebM and others through PyAV: pictures decoded, packets of sound passed on."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from service.core.types import Frame
from service.imaging.codec import FrameLimits
from service.serving.video import file_kinds, pictures
from service.serving.video.clip import Info, Item, Passed, Timed, VideoError, check_size
from service.serving.video.edit_parts import EditParts
from service.serving.video.orientation import Orientation
from service.serving.video.pictures import Deinterlacer
from service.serving.video.timeline import Timeline

#: Nothing but the file itself: playlists could name other files and addresses, so their formats are not read.
SAFE = {
    "protocol_whitelist": "file,pipe",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,ivf",
}
#: Formats that store when a frame is decoded but not when it is shown.
_WITHOUT_SHOW_TIMES = ("avi",)
#: Frames in a row that are shown at once where their times are those of the ones before; of more, the times are wrong.
MOST_AT_ONCE = 16
#: Units a second that a clip's times are counted in at least: between two frames there must be room for more.
LEAST_UNITS = 1000
#: The format whose index names the place of every frame.
_INDEXED = "mov,"
_PICTURE_CODECS = ("png", "mjpeg", "bmp", "gif", "webp", "tiff")
#: Hours, minutes and seconds.
_LENGTH = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")
#: Frames a second; a larger rate is a guess from a clip whose frames have no common one.
MAX_DENSEST = 240


class ContainerSource:
    """Reads a file, or a stream of bytes; the first video stream counts that is no cover picture."""

    def __init__(self, file: Path | BinaryIO, *, limits: FrameLimits, sound: bool = True) -> None:
        self._limits = limits
        if (why := file_kinds.still_picture(file)) is not None:
            raise VideoError(why)
        file_kinds.check_shown_here(file)
        try:
            name = file_kinds.container_name(file)
            container = av.open(whole_name(file), "r", format=name, options=SAFE)
            assert isinstance(container, InputContainer)
            self._container = container
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(file_kinds.refusal(file, reason(error))) from error
        try:
            self._video = _film(container)
            self._video.thread_type = "AUTO"
            # Else FFmpeg crops the left side to whole words of memory only, and shows what is to be hidden.
            self._video.codec_context.flags |= Flags.unaligned
            # The decoder's own limit: a frame inside may be larger than the header says.
            self._video.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            self.sounds = [stream for stream in container.streams.audio if _is_known(stream)] if sound else []
            self._timeline = Timeline(
                Fraction(container.start_time or 0, av.time_base),
                is_broadcast=av.format.Flags.ts_discont in av.format.Flags(container.format.flags),
            )
            self._decoded: collections.deque[int] | None = None
            if container.format.name in _WITHOUT_SHOW_TIMES:
                self._decoded = collections.deque()
            self._edit_parts: EditParts | None = None
            self._has_packets = False
            self._is_indexed = container.format.name.startswith(_INDEXED)
            self._is_pipe = not isinstance(file, Path) and not file.seekable()
            self._deinterlacer = Deinterlacer(self._video)
            self._orientation = Orientation()
            self.info = self._look(sound)
        except BaseException:
            self._container.close()
            raise

    def _look(self, sound: bool) -> Info:
        stream, context = self._video, self._video.codec_context
        if context.width and context.height:  # else only its first frame tells
            check_size(self._limits, context.width, context.height)
        _check_length(self._container, stream)
        # VP8's and VP9's transparency is a film of its own beside them, which is not decoded here; others' is in them.
        if stream.metadata.get("alpha_mode") == "1" and context.name.startswith(("vp8", "vp9")):
            raise VideoError(pictures.TRANSPARENT)
        rate, frames = stream.average_rate or stream.guessed_rate or Fraction(25), stream.frames or None
        if self._decoded is not None:
            share = _filled_share(stream)
            rate, frames = rate * share, frames and round(frames * share)
        unit = stream.time_base or 1 / rate
        self._fineness = 1 if self._decoded is not None else math.ceil(unit * LEAST_UNITS)
        self._unit = unit / self._fineness
        self._usual = max(1, round(1 / rate / self._unit))
        if self._is_indexed:
            self._edit_parts = EditParts(max(1, round(1 / rate / unit)))
            context.copy_opaque = True
        if self._container.duration:
            expected = int(Fraction(self._container.duration, av.time_base) * rate)
            # Of what the header counts, an edit list may hide a part.
            frames = expected if frames is None else min(frames, expected + 1)
        # Frames tell how a phone was held; the packets of sound before the first one are kept for later.
        self._items = self._read()
        self._begun: list[Item] = []
        for item in self._items:
            self._begun.append(item)
            if isinstance(item, Timed):
                size = item.frame.width, item.frame.height
                check_size(self._limits, *size)  # it may be another than the header's
                notes = _not_read(self._container, self._video, sound)
                is_counted, densest = bool(stream.frames), _densest(stream)
                return Info(*size, rate, self._unit, frames, is_counted, densest, self._traits, notes)
        raise VideoError(self._why_no_frame())

    def _why_no_frame(self) -> str:
        if self._is_pipe and self._is_indexed:
            return (
                "the film's index lies behind it, and a pipe does not go back; give the file's name, "
                "or put its index in front: ffmpeg -i in.mp4 -c copy -movflags +faststart out.mp4"
            )
        if self._has_packets:
            return (
                "no frame of the film becomes whole: it is damaged, or cut out of a longer one; cut it at a key frame"
            )
        return "the file has no frames"

    def __iter__(self) -> Iterator[Item]:
        yield from self._begun
        self._begun.clear()
        yield from self._items

    def _read(self) -> Iterator[Item]:
        self._last: int | None = None
        self._at_once = 0
        hidden: dict[int, Any] = {}
        try:
            for packet in self._container.demux([self._video, *self.sounds]):
                if packet.has_sidedata("encryption_info"):
                    raise VideoError("the film is encrypted, and no key is known here; send it without its protection")
                if packet.is_corrupt and (self._is_indexed or _is_of_pictures(self._video)):
                    # The file ends within it: a decoder that gets it forgets the frames it still owes, or, of single
                    # pictures, leaves what is missing to chance.
                    continue
                self._move(packet)
                if packet.stream is self._video:
                    yield from self._shown(packet)
                elif packet.dts is not None:
                    track = self.sounds.index(packet.stream)  # type: ignore[arg-type]
                    # Of what an edit list hides, a decoder needs the last packet to begin with, and no other.
                    if packet.is_discard:
                        hidden[track] = packet
                        continue
                    if track in hidden:
                        yield Passed(hidden.pop(track), track)
                    yield Passed(packet, track)
            for picture in self._deinterlacer.rest():
                yield self._frame(picture)
        except av.FFmpegError as error:
            if self._last is None and self._is_pipe and self._is_indexed:
                raise VideoError(self._why_no_frame()) from error
            seconds = float((self._last or 0) * self._unit)
            raise VideoError(f"the video is damaged {seconds:.2f} s after its start: {reason(error)}") from error

    def _move(self, packet: Any) -> None:
        """Put a packet's times on the clip's own clock."""
        unit = packet.time_base or self._unit
        # What an edit list hides between two of its parts is decoded again from before: no jump of the clip's clock.
        time = None if packet.dts is None or packet.is_discard else packet.dts * unit
        length = (packet.duration or 0) * unit or Fraction(self._usual * self._unit)
        offset = round(self._timeline.offset(packet.stream.index, time, length) / unit)
        if offset and packet.pts is not None:
            packet.pts -= offset
        if offset and packet.dts is not None:
            packet.dts -= offset

    def _shown(self, packet: Any) -> Iterator[Timed]:
        if self._decoded is not None and packet.dts is not None:
            self._decoded.append(packet.dts)
        self._has_packets = self._has_packets or packet.size > 0
        if self._edit_parts is not None and packet.size:
            # Each in an object of its own: PyAV forgets one that two packets have as soon as the first is gone.
            packet.opaque = [self._edit_parts.number(packet)]
        for picture in self._decode(packet):
            part: Any = picture.opaque
            if self._edit_parts is not None and part is not None and picture.pts is not None:
                picture.pts = self._edit_parts.moved(part[0], picture.pts, picture.duration or 0)
            if self._decoded:
                # Frames come in the order shown, each for one packet: the first shown has the first time.
                picture.pts = self._decoded.popleft()
            for frame in self._deinterlacer.frames(picture):
                yield self._frame(frame)

    def _decode(self, packet: Any) -> list[av.VideoFrame]:
        try:
            frames: list[av.VideoFrame] = packet.decode()
        except av.InvalidDataError:
            # What was cut out of a longer film, or tuned in to, begins with what nothing before it explains.
            if self._last is not None or self._is_indexed:
                raise
            return []
        return frames

    def _frame(self, picture: av.VideoFrame) -> Timed:
        # Said with every picture, or (by H.264 itself) with those that one may begin at; joined recordings may differ.
        matrix = pictures.display_matrix(picture)
        if matrix is not None or picture.key_frame:
            self._orientation = Orientation() if matrix is None else Orientation.of_matrix(matrix)
        if self._last is None:
            aspect = self._video.sample_aspect_ratio or Fraction(1)
            self._traits = pictures.traits_of(picture, aspect, self._orientation)
            self._due, self._coded_aspect = 0, self._pixel_aspect
        elif self._pixel_aspect != self._coded_aspect:
            seconds = float(self._last * self._unit)
            raise VideoError(f"the shape of its pixels changes {seconds:.2f} s after the clip's start; cut it there")
        duration = (picture.duration or 0) * self._fineness
        pts = self._placed(picture)
        self._last, self._due = pts, pts + (duration or self._usual)
        return Timed(Frame(pictures.to_rgb(picture, self._orientation)), pts, duration)

    def _placed(self, picture: av.VideoFrame) -> int:
        """Return when a picture is shown; always later than the one before, or no muxer would take it."""
        if picture.pts is None:
            return self._due
        pts = int(picture.pts) * self._fineness
        if self._last is None or pts > self._last:
            self._at_once = 0
            return pts
        self._at_once += 1
        # Not a whole frame later: those after it have their own times, and would be late for their sound.
        return self._last + 1 if self._at_once <= MOST_AT_ONCE else self._due

    @property
    def _pixel_aspect(self) -> Fraction:
        """Return the shape that the frames say, as shown; a container may say another, for all of them."""
        aspect = self._video.codec_context.sample_aspect_ratio or Fraction(1)
        return 1 / aspect if self._orientation.transposed else aspect

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def whole_name(file: Path | BinaryIO) -> str | BinaryIO:
    """Return a file as FFmpeg takes it: it reads what stands before a colon as a protocol, but for a whole path."""
    return str(file.absolute()) if isinstance(file, Path) else file


def _film(container: InputContainer) -> VideoStream:
    """Return the stream of pictures that players show: no cover, the default one, or else the first.

    Raises VideoError where there is none.
    """
    streams = [stream for stream in container.streams.video if _is_known(stream)]
    films = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    # Not every cover is marked as one; beside a film, what is one picture, or coded as single ones, is one.
    films.sort(key=lambda film: (_is_of_pictures(film), film.frames == 1, not _is_default(film), -_seconds(film)))
    if films:
        return films[0]
    if streams:
        raise VideoError("the file has a cover picture but no film, only sound")
    if container.streams.video:
        raise VideoError("the pictures are in a format that cannot be decoded; write H.264: ffmpeg -i in out.mp4")
    raise VideoError("the file has no pictures, only sound or text")


def _is_default(film: VideoStream) -> bool:
    """Tell whether the file has it shown where nobody chooses: in MP4 a track that is enabled."""
    return bool(film.disposition & Disposition.default)


def _is_of_pictures(film: VideoStream) -> bool:
    return film.codec_context.name in _PICTURE_CODECS


def _seconds(film: VideoStream) -> float:
    """Return how long the header, or in Matroska a tag, says that single pictures are shown; 0 where neither does."""
    if not _is_of_pictures(film):
        return 0.0
    if film.duration is not None and film.time_base is not None:
        return float(film.duration * film.time_base)
    match = _LENGTH.match(film.metadata.get("DURATION", ""))
    return 0.0 if match is None else 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])


def _check_length(container: InputContainer, film: VideoStream) -> None:
    """Raise VideoError where an index in front names bytes that the file has not: its end was never sent, or saved."""
    # Others play up to where they end; so does an MP4 of fragments, which is made so that a crash leaves a film.
    if not (container.format.name.startswith(_INDEXED) and film.frames):
        return
    least_size = max((entry.pos + entry.size for entry in film.index_entries), default=0)
    if 0 < container.size < least_size:
        raise VideoError(
            f"the file is cut short: it has {container.size} bytes, and its index names {least_size}; send it whole"
        )


def _filled_share(film: VideoStream) -> Fraction:
    """Return the share of an AVI's places that hold a frame, by its index; its header counts them, and their rate.

    Half of them are empty where H.264 was copied into it.
    """
    entries = film.index_entries
    steps = len(entries) - 1
    places = entries[-1].timestamp - entries[0].timestamp if steps > 0 else 0
    return min(Fraction(1), Fraction(steps, places)) if places > 0 else Fraction(1)


def _densest(stream: VideoStream) -> Fraction | None:
    """Return the rate at which no frame falls between two others, where it is one that people use."""
    rate = stream.guessed_rate
    return rate if rate and rate <= MAX_DENSEST else None


def _is_known(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec is not None


def _not_read(container: InputContainer, film: VideoStream, sound: bool) -> tuple[str, ...]:
    """Name what of the file is not read."""
    notes = []
    for stream in container.streams:
        if stream.type == "audio" and sound and not _is_known(stream):
            notes.append(f"track {stream.index + 1}, a sound that cannot be read, is left out")
        elif stream.type == "subtitle":
            notes.append(f"track {stream.index + 1}, subtitles, is left out")
        elif stream.type == "video" and stream is not film and not stream.disposition & Disposition.attached_pic:
            kind = "a still picture" if stream.frames == 1 else "a second film"
            notes.append(f"track {stream.index + 1}, {kind}, is left out")
    return tuple(notes)


def reason(error: BaseException) -> str:
    """Return what PyAV says of an error, in one line."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
