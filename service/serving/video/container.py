"""MP4, Matroska, WebM and others through PyAV: pictures decoded and encoded, sound copied packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from service.core.types import Frame
from service.serving.video.clip import Info, Item, Passed, Timed, VideoError

#: Tried in this order for each container; the first that this PyAV has is used.
_CODECS = {".webm": ("libvpx-vp9", "libvpx")}
_DEFAULT_CODECS = ("libx264", "libopenh264", "mpeg4")
#: Near transparent quality, at a speed that does not hide the network's.
_QUALITY = {
    "libx264": {"crf": "17", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "mpeg4": {"qscale": "3"},
}
#: Nothing but the file itself: playlists could name other files and addresses, so their formats are not read.
SAFE = {
    "protocol_whitelist": "file,pipe",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf",
}
#: Written so that it can be played while it is being sent, and without seeking back.
FRAGMENTED = {"movflags": "frag_keyframe+delay_moov+default_base_moof"}
#: Sound that waits for its pictures is held by the muxer, seconds.
_MAX_INTERLEAVE = {"max_interleave_delta": "10000000"}


class ContainerSource:
    """Reads a file, or a seekable stream of bytes; the first video stream counts."""

    def __init__(self, file: Path | BinaryIO, *, max_pixels: int, sound: bool = True) -> None:
        self._max_pixels = max_pixels
        try:
            container = av.open(str(file) if isinstance(file, Path) else file, "r", options=SAFE)
            assert isinstance(container, InputContainer)
            self._container = container
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(f"no video that can be read: {_reason(error)}") from error
        try:
            if not self._container.streams.video:
                raise VideoError("the file has no pictures, only sound or text")
            self._video = self._container.streams.video[0]
            self._video.thread_type = "AUTO"
            # The decoder's own limit: a frame inside may be larger than the header says.
            self._video.codec_context.options = {"max_pixels": str(max_pixels)}
            self.sounds = list(self._container.streams.audio) if sound else []
            self.info = self._look()
        except BaseException:
            self._container.close()
            raise

    def _look(self) -> Info:
        stream, context = self._video, self._video.codec_context
        if context.width * context.height > self._max_pixels:
            raise VideoError(
                f"frames of {context.width}x{context.height} are larger than {self._max_pixels} pixels; "
                "scale it first: ffmpeg -i in.mp4 -vf scale=1280:-2 smaller.mp4"
            )
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        base = stream.time_base or 1 / rate
        frames = stream.frames or None
        if frames is None and self._container.duration:
            frames = int(self._container.duration / av.time_base * rate)
        # Frames tell how a phone was held; the packets of sound before the first one are kept for later.
        self._items = self._read()
        self._begun: list[Item] = []
        for item in self._items:
            self._begun.append(item)
            if isinstance(item, Timed):
                return Info(item.frame.width, item.frame.height, rate, base, frames)
        raise VideoError("the file has no frames")

    def __iter__(self) -> Iterator[Item]:
        yield from self._begun
        self._begun.clear()
        yield from self._items

    def _read(self) -> Iterator[Item]:
        last = -1
        streams = [self._video, *self.sounds]
        try:
            for packet in self._container.demux(streams):
                if packet.stream is not self._video:
                    if packet.dts is not None:
                        yield Passed(packet, self.sounds.index(packet.stream))  # type: ignore[arg-type]
                    continue
                for picture in packet.decode():
                    assert isinstance(picture, av.VideoFrame)
                    frame = self._frame(picture, last)
                    last = frame.pts
                    yield frame
        except av.FFmpegError as error:
            raise VideoError(f"the video is damaged near its {last + 1}th unit of time: {_reason(error)}") from error

    def _frame(self, picture: av.VideoFrame, last: int) -> Timed:
        pixels = picture.to_ndarray(format="rgb24")
        if picture.rotation:
            pixels = np.rot90(pixels, picture.rotation // 90)
        # A frame without a time, or not after the one before it, would stop the muxer: it follows as closely as it can.
        pts = picture.pts if picture.pts is not None and picture.pts > last else last + 1
        return Timed(Frame(np.ascontiguousarray(pixels)), pts)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class ContainerSink:
    """Writes a file, or into anything with `write` (then `suffix` says the container, and it is fragmented)."""

    def __init__(
        self,
        file: Path | BinaryIO,
        width: int,
        height: int,
        info: Info,
        *,
        suffix: str,
        sounds: list[Any] | None = None,
    ) -> None:
        is_stream = not isinstance(file, Path)
        options = _MAX_INTERLEAVE | (FRAGMENTED if is_stream else {"movflags": "+faststart"})
        format = {".mkv": "matroska", ".webm": "webm", ".mov": "mov", ".avi": "avi"}.get(suffix, "mp4")
        try:
            container = av.open(file if is_stream else str(file), "w", format=format, container_options=options)
            assert isinstance(container, OutputContainer)
            self._container = container
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(f"cannot write {file}: {_reason(error)}") from error
        codec = _codec(suffix)
        quality = _QUALITY.get(codec, {})
        if is_stream and codec == "libx264":
            # A fragment ends at a key frame: often enough that what is made is also sent.
            quality = quality | {"tune": "zerolatency", "g": "30"}
        video = self._container.add_stream(codec, rate=info.rate, options=quality)
        assert isinstance(video, VideoStream)
        assert isinstance(video.codec_context, VideoCodecContext)
        self._video = video
        # Chroma for two by two pixels needs even sides.
        self._format = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        self._matrix = Colorspace.ITU709 if height >= 720 else Colorspace.ITU601
        context = video.codec_context
        context.width, context.height, context.pix_fmt = width, height, self._format
        context.time_base = self._base = info.time_base
        # ISO/IEC 23091-2: matrix 1 is BT.709, 6 BT.601; range 1 is limited.
        context.colorspace = 1 if height >= 720 else 6
        context.color_range = 1
        try:
            self._sounds = [self._container.add_stream_from_template(sound) for sound in sounds or []]
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise VideoError(
                f"this sound cannot be copied into {suffix}: write .mkv, or leave it out with --no-audio"
            ) from error

    def write(self, item: Item) -> None:
        """Write the next frame, encoded, or a packet of sound, copied."""
        try:
            if isinstance(item, Passed):
                item.packet.stream = self._sounds[item.stream]
                self._container.mux(item.packet)
                return
            picture = av.VideoFrame.from_ndarray(item.frame.pixels, format="rgb24")
            picture = picture.reformat(
                format=self._format, dst_colorspace=self._matrix, dst_color_range=ColorRange.MPEG
            )
            picture.pts, picture.time_base = item.pts, self._base
            self._container.mux(self._video.encode(picture))
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"cannot write the video: {_reason(error)}") from error

    def close(self) -> None:
        """Flush the encoder and end the file."""
        try:
            self._container.mux(self._video.encode(None))
        except av.FFmpegError as error:
            raise VideoError(f"cannot end the video: {_reason(error)}") from error
        finally:
            self._container.close()


def _codec(suffix: str) -> str:
    for name in _CODECS.get(suffix, _DEFAULT_CODECS):
        if name in av.codecs_available:
            return name
    raise VideoError(f"this PyAV has no encoder for {suffix}; write .y4m and encode it with ffmpeg")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
