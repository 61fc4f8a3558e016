"""Decoded pictures to RGB frames as they are to be shown: progressive, upright, opaque, 8 bits of SDR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from service.serving.video import tone_map
from service.serving.video.clip import BT601, BT709, UNSPECIFIED, PictureTraits, VideoError
from service.serving.video.orientation import Orientation

#: Matrices that the scaler knows by these numbers; another is shown with the one that its height has.
_MATRICES = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, BT601: Colorspace.ITU601}
_MATRICES |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}
#: Where formats of separate planes have their alpha.
_ALPHA_PLANE = 3
#: Matrices that the scaler lacks, whose colours another one would show wrong.
_UNREAD_MATRICES = {8: "YCgCo", 11: "SMPTE 2085", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_FULL_RANGE = 2
#: One frame for each frame, and only those that are interlaced.
_DEINTERLACER = "mode=send_frame:deint=interlaced"


def scaler_matrix(matrix: int) -> Colorspace:
    """Return the scaler's name of a matrix. KeyError for one it lacks."""
    return _MATRICES[matrix]


def traits_of(picture: av.VideoFrame, pixel_aspect: Fraction, orientation: Orientation) -> PictureTraits:
    """Read how frames like this one, put right, are to be shown."""
    aspect = 1 / pixel_aspect if orientation.transposed else pixel_aspect
    matrix = int(picture.colorspace) if int(picture.colorspace) in _MATRICES else UNSPECIFIED
    # Old formats of this name say their range by nothing else.
    is_full = int(picture.color_range) == _FULL_RANGE or picture.format.name.startswith("yuvj")
    is_full = is_full and not picture.format.is_rgb  # RGB is always full; what is written of it need not be
    traits = PictureTraits(aspect, int(picture.color_primaries), int(picture.color_trc), matrix, is_full)
    if tone_map.is_hdr(traits.transfer):
        return replace(traits, primaries=BT709, transfer=BT709, matrix=BT709, full_range=False)
    return traits


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """Read how the camera was held. Raises VideoError for an angle that is no quarter turn."""
    side_data: Any = picture.side_data
    matrix = next((data for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    return Orientation() if matrix is None else Orientation.of_matrix(bytes(matrix))


class Deinterlacer:
    """Passes progressive pictures by and makes frames of interlaced ones, from the first such one on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._graph: Any = None

    def frames(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Yield what is ready; an interlaced picture waits for the next one."""
        if self._graph is None and not picture.interlaced_frame:
            yield picture
            return
        if self._graph is None:
            self._graph = self._started(picture)
        self._graph.push(picture)
        yield from self._pulled()

    def rest(self) -> Iterator[av.VideoFrame]:
        """Yield what is held at the end of the clip."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pulled()

    def _started(self, picture: av.VideoFrame) -> Any:
        graph = av.filter.Graph()
        entry = graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=self._stream.time_base
        )
        fields, end = graph.add("bwdif", _DEINTERLACER), graph.add("buffersink")
        entry.link_to(fields)
        fields.link_to(end)
        graph.configure()
        return graph

    def _pulled(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                picture = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            # The filter counts in halves of the stream's unit.
            scale = picture.time_base / self._stream.time_base
            picture.pts = None if picture.pts is None else round(picture.pts * scale)
            picture.duration = round(picture.duration * scale)
            yield picture


def to_rgb(picture: av.VideoFrame, orientation: Orientation) -> NDArray[np.uint8]:
    """Convert to HxWx3 as it is to be shown. Raises VideoError where a pixel is transparent or its colour not read."""
    _check_opaque(picture)
    _check_matrix(picture)
    matrix = PictureTraits(matrix=int(picture.colorspace)).matrix_at(picture.height)
    matrix = matrix if matrix in _MATRICES else PictureTraits().matrix_at(picture.height)
    pixels: Any
    options: Any = {"src_colorspace": _MATRICES[matrix], "dst_color_range": ColorRange.JPEG}
    if tone_map.is_hdr(int(picture.color_trc)):
        deep: NDArray[Any] = np.ascontiguousarray(picture.to_ndarray(format="gbrp16le", **options))
        pixels = tone_map.to_sdr(deep, int(picture.color_trc), int(picture.color_primaries))
    else:
        # By way of planar RGB more than 8 bits are exact; straight to rgb24 the scaler makes their white 253.
        is_deep = any(component.bits > 8 for component in picture.format.components)
        pixels = picture.to_ndarray(format="gbrp" if is_deep else "rgb24", **options)
    upright: NDArray[np.uint8] = orientation.applied(pixels)
    return upright


def _check_opaque(picture: av.VideoFrame) -> None:
    alpha = next((component for component in picture.format.components if component.is_alpha), None)
    if alpha is not None and _least_alpha(picture, alpha) < 2 ** min(alpha.bits, 16) - 1:
        raise VideoError(TRANSPARENT)


def _least_alpha(picture: av.VideoFrame, alpha: Any) -> int:
    """Return the alpha of the most transparent pixel, from 0 to the largest number of so many bits.

    From its own plane, where it has one: the scaler makes 254 of 4:2:2's 255, and anything of 4:2:0's last columns.
    """
    if alpha.plane != _ALPHA_PLANE or alpha.bits > 16:
        least = int(picture.to_ndarray(format="rgba")[:, :, 3].min())
        return int(least * (2 ** min(int(alpha.bits), 16) - 1) // 255)
    plane: Any = picture.planes[_ALPHA_PLANE]
    order = ">" if picture.format.name.endswith("be") else "<"
    levels: NDArray[Any] = np.frombuffer(plane, f"{order}u{1 if alpha.bits <= 8 else 2}")
    return int(levels.reshape(plane.height, -1)[:, : picture.width].min())


def _check_matrix(picture: av.VideoFrame) -> None:
    name = _UNREAD_MATRICES.get(int(picture.colorspace))
    if name is not None and not picture.format.is_rgb:
        raise VideoError(
            f"the clip's colours are coded as {name}, which is not read; convert them first: "
            "ffmpeg -i in.mkv -vf zscale=matrix=709,format=yuv420p out.mp4"
        )


TRANSPARENT = (
    "the clip has transparent pixels; lay it on a colour first: "
    "ffmpeg -f lavfi -i color=black -i in.webm -filter_complex '[0][1]scale2ref[a][b];[a][b]overlay=shortest=1' out.mp4"
)
