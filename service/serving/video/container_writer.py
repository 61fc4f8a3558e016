"""Writes MP4, Matroska, WebM and AVI through PyAV: frames encoded, sound copied or encoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.serving.video import pictures, sound
from service.serving.video.clip import UNSPECIFIED, Info, Item, Passed, SoundMode, Timed, VideoError
from service.serving.video.container_reader import reason, whole_name

#: Tried in this order for each container; the first that this PyAV has is used.
_CODECS = {".webm": ("libvpx-vp9", "libvpx")}
_DEFAULT_CODECS = ("libx264", "libopenh264", "mpeg4")
_FORMATS = {".mkv": "matroska", ".webm": "webm", ".mov": "mov", ".avi": "avi"}
#: Near transparent quality, at a speed that does not hide the network's.
_QUALITY = {
    "libx264": {"crf": "17", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "mpeg4": {"qscale": "3"},
}
#: No frame waits for later ones, and a viewer may enter at every 30th.
_UNDELAYED = {
    "libx264": {"tune": "zerolatency", "g": "30"},
    "libvpx-vp9": {"lag-in-frames": "0", "g": "30"},
    "libvpx": {"lag-in-frames": "0", "g": "30"},
}
#: Written so that it can be played while it is being sent, and without seeking back: five pieces for each second.
STREAMED = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "200000",
    "cluster_time_limit": "200",
    "flush_packets": "1",
}
#: Sound that waits for its pictures is held by the muxer, seconds.
_MAX_INTERLEAVE = {"max_interleave_delta": "10000000"}
#: How many times as wide or high a picture may become where its pixels are made square: larger ones take memory.
MOST_STRETCHED = 4
#: Numbers that encoders know (ISO/IEC 23091-2); another is not told rather than wrong.
_PRIMARIES = {1, *range(4, 13), 22}
_TRANSFERS = {1, *range(4, 19)}


class ContainerSink:
    """Writes a file, or into anything with `write` (then `suffix` says the container, and it is sent in pieces)."""

    def __init__(
        self,
        file: Path | BinaryIO,
        width: int,
        height: int,
        info: Info,
        *,
        suffix: str,
        sounds: list[Any] | None = None,
        mode: SoundMode = SoundMode.COPY,
    ) -> None:
        self._suffix, self._is_stream = suffix, not isinstance(file, Path)
        self._format = _FORMATS.get(suffix, "mp4")
        options = _MAX_INTERLEAVE | (STREAMED if self._is_stream else {"movflags": "+faststart"})
        try:
            container = av.open(whole_name(file), "w", self._format, container_options=options)
            assert isinstance(container, OutputContainer)
            self._container = container
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(f"cannot write {file}: {reason(error)}") from error
        try:
            self.notes: tuple[str, ...] = ()
            self._add_video(width, height, info)
            self._sounds = [self._added_sound(track, mode) for track in sounds or []]
        except BaseException as error:
            self._container.close()
            if isinstance(error, av.FFmpegError | ValueError):
                raise VideoError(f"cannot write {suffix}: {reason(error)}") from error
            raise

    def _add_video(self, width: int, height: int, info: Info) -> None:
        codec = _codec(self._suffix)
        quality = dict(_QUALITY.get(codec, {}))
        if self._is_stream:
            quality |= _UNDELAYED.get(codec, {})
        rate = max(info.densest or info.rate, info.rate)
        self._base = info.time_base
        if self._suffix == ".avi":
            # It has no times, only frames at one rate, in the order of their decoding.
            self._base = 1 / rate
            quality |= {"bf": "0"}
        self._from, self._last, self._until = info.time_base, -1, -1
        self._durations: dict[int, int] = {}
        self._usual = max(1, round(1 / info.rate / self._base))
        video = self._container.add_stream(codec, rate=rate, options=quality)
        assert isinstance(video, VideoStream)
        assert isinstance(video.codec_context, VideoCodecContext)
        self._video = video
        self._size = self._fitted(width, height, info.traits.pixel_aspect)
        self._matrix = info.traits.matrix_at(height)
        self._range = ColorRange.JPEG if info.traits.full_range else ColorRange.MPEG
        context = video.codec_context
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.time_base = self._base
        if self._suffix != ".webm":
            context.sample_aspect_ratio = info.traits.pixel_aspect
        context.colorspace, context.color_range = self._matrix, int(self._range)
        traits = info.traits
        context.color_primaries = traits.primaries if traits.primaries in _PRIMARIES else UNSPECIFIED
        context.color_trc = traits.transfer if traits.transfer in _TRANSFERS else UNSPECIFIED

    def _fitted(self, width: int, height: int, aspect: Fraction) -> tuple[int, int]:
        """Return the sides that are written, and note where they are others than the clip's."""
        if self._suffix == ".webm":
            # VP9 takes odd sides; but PyAV cannot write WebM's aspect, so pixels are made square.
            if not 1 / MOST_STRETCHED <= aspect <= MOST_STRETCHED:
                shape = f"{aspect.numerator}:{aspect.denominator}"
                raise VideoError(f"pixels of {shape} are not made square, as .webm wants them; write .mp4 or .mkv")
            square = max(1, round(width * aspect))
            if square != width:
                self._note(f"pixels of {aspect.numerator}:{aspect.denominator} are made square: {square}x{height}")
            return square, height
        even = width + width % 2, height + height % 2
        if even != (width, height):
            self._note(f"{width}x{height} is written as {even[0]}x{even[1]}: browsers play even sides only")
        return even

    def _added_sound(self, track: Any, mode: SoundMode) -> sound.SoundCopy | sound.SoundEncoder | None:
        if sound.holds(self._format, track):
            return sound.copied(self._container, track)
        name = f"track {track.index + 1}, {track.codec_context.name},"
        if sound.encodes(self._format, track, self._suffix):
            if mode is SoundMode.TRANSCODE:
                self._note(f"{name} is encoded anew")
                return sound.encoded(self._container, track, self._suffix)
            name, advice = f"{name} is left out", ": sound=transcode encodes it anew"
        else:
            name, advice = f"{name} is left out", ""
        self._note(f"{name}, as {self._suffix} cannot hold it{advice}")
        return None

    def _note(self, text: str) -> None:
        self.notes += (text,)

    def write(self, item: Item) -> None:
        """Write the next frame, encoded, or a packet of sound."""
        try:
            if isinstance(item, Timed):
                self._write_frame(item)
            else:
                self._write_sound(item)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"cannot write the video: {reason(error)}") from error

    def _write_sound(self, item: Passed) -> None:
        if (track := self._sounds[item.stream]) is not None:
            self._container.mux(track.packets(item.packet))

    def _write_frame(self, item: Timed) -> None:
        picture = av.VideoFrame.from_ndarray(self._padded(item.frame.pixels), format="rgb24")
        picture = picture.reformat(
            *self._size,
            format="yuv420p",
            dst_colorspace=pictures.scaler_matrix(self._matrix),
            dst_color_range=self._range,
        )
        scale = self._from / self._base
        picture.pts = max(round(item.pts * scale), self._last + 1)
        picture.time_base = self._base
        self._last, self._until = picture.pts, picture.pts
        if item.duration:
            self._durations[picture.pts] = max(1, round(item.duration * scale))
            self._until += self._durations[picture.pts] - 1
        elif self._suffix != ".avi":
            # The muxer would take the distance of the last two, which may be next to nothing.
            self._durations[picture.pts] = self._usual
        self._final = item
        self._mux(self._video.encode(picture))

    def _padded(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Repeat the last row or column where a side is odd and must be even."""
        if self._suffix == ".webm":
            return pixels
        rows, columns = pixels.shape[0] % 2, pixels.shape[1] % 2
        return np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else pixels

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            # An encoder forgets how long a frame stays; for the last one nothing else says it.
            if (duration := self._durations.pop(packet.pts, 0)) and packet.time_base == self._base:
                packet.duration = duration
            self._container.mux(packet)

    def close(self) -> None:
        """Flush the encoders and end the file."""
        try:
            for track in self._sounds:
                self._container.mux(track.rest() if track else [])
            if self._suffix == ".avi" and self._until > self._last:
                # Nothing else says how long its last frame stays.
                self._write_frame(Timed(self._final.frame, round(self._until * self._base / self._from)))
            self._mux(self._video.encode(None))
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"cannot end the video: {reason(error)}") from error
        finally:
            self._container.close()


def _codec(suffix: str) -> str:
    for name in _CODECS.get(suffix, _DEFAULT_CODECS):
        if name in av.codecs_available:
            return name
    raise VideoError(f"this PyAV has no encoder for {suffix}; write .y4m and encode it with ffmpeg")
