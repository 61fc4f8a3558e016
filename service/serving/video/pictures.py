"""Decoded pictures to RGB frames as they are to be shown: progressive, upright, opaque, 8 bits of SDR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata import sidedata
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from service.serving.video import tone_map
from service.serving.video.clip import BT601, BT709, UNSPECIFIED, PictureTraits, VideoError
from service.serving.video.orientation import Orientation

#: Numbers of two more matrices.
SMPTE240M, BT2020 = 7, 9
#: Matrices that the scaler knows by these numbers; another is shown with the one that its height has.
_MATRICES = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, BT601: Colorspace.ITU601}
_MATRICES |= {SMPTE240M: Colorspace.SMPTE240M, BT2020: Colorspace.BT2020}
#: The matrix that follows from a clip's primaries (number 12), by their number: one that the scaler knows.
_DERIVED, _DERIVED_MATRICES = 12, {1: BT709, 6: SMPTE240M, 7: SMPTE240M, 9: BT2020}
#: Where formats of separate planes have their alpha.
_ALPHA_PLANE = 3
#: Matrices that the scaler lacks, or (constant luminance) takes for another: their colours would come out wrong.
_UNREAD_MATRICES = {8: "YCgCo", 10: "BT.2020 of constant luminance", 11: "SMPTE 2085", 13: "constant luminance"}
_UNREAD_MATRICES |= {_DERIVED: "its primaries tell", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_FULL_RANGE = 2
#: Formats of grey, and the same with chroma.
_COLOURED = {"gray": "yuv420p"} | {f"gray{bits}le": f"yuv420p{bits}le" for bits in (9, 10, 12, 14, 16)}
#: One frame for each frame, and only those that are interlaced.
_DEINTERLACER = "mode=send_frame:deint=interlaced"


def scaler_matrix(matrix: int) -> Colorspace:
    """Return the scaler's name of a matrix. KeyError for one it lacks."""
    return _MATRICES[matrix]


def traits_of(picture: av.VideoFrame, pixel_aspect: Fraction, orientation: Orientation) -> PictureTraits:
    """Read how frames like this one, put right, are to be shown."""
    aspect = 1 / pixel_aspect if orientation.transposed else pixel_aspect
    matrix = _matrix_of(picture)
    # Old formats of this name say their range by nothing else.
    is_full = int(picture.color_range) == _FULL_RANGE or picture.format.name.startswith("yuvj")
    is_full = is_full and not picture.format.is_rgb  # RGB is always full; what is written of it need not be
    traits = PictureTraits(aspect, int(picture.color_primaries), int(picture.color_trc), matrix, is_full)
    if tone_map.is_hdr(traits.transfer):
        return replace(traits, primaries=BT709, transfer=BT709, matrix=BT709, full_range=False)
    return traits


def _unknown_kind(kinds: Any, number: int) -> Any:
    """Return a kind of side data that PyAV has no name for: it would refuse to tell any of a picture's."""
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNKNOWN_{number}", number
    return kind


# FFmpeg 8 has Exif (31), which the motion JPEG of cameras holds; PyAV 18.1 does not know it (PyAV pull request 2392).
sidedata.Type._missing_ = classmethod(_unknown_kind)  # type: ignore[method-assign,assignment]


def display_matrix(picture: av.VideoFrame) -> bytes | None:
    """Return what says how the camera was held, for `Orientation.of_matrix`; None where nothing does."""
    side_data: Any = picture.side_data
    matrix = next((data for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    return None if matrix is None else bytes(matrix)


class Deinterlacer:
    """Passes progressive pictures by and makes frames of interlaced ones, from the first such one on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._graph: Any = None
        self._kind: object = None  #: what a graph is made for: size and format

    def frames(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Yield what is ready; an interlaced picture waits for the next one."""
        if self._graph is None and not picture.interlaced_frame:
            yield picture
            return
        kind = picture.width, picture.height, picture.format.name
        if kind != self._kind:
            yield from self.rest()
            self._graph, self._kind = self._started(picture), kind
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
    picture = _with_chroma(picture)
    matrix = PictureTraits(matrix=_matrix_of(picture)).matrix_at(picture.height)
    pixels: Any
    options: Any = {"src_colorspace": _MATRICES[matrix], "dst_color_range": ColorRange.JPEG}
    if tone_map.is_hdr(int(picture.color_trc)):
        deep: NDArray[Any] = np.ascontiguousarray(picture.to_ndarray(format="gbrp16le", **options))
        white = _white_in_16_bits(picture.format)
        pixels = tone_map.to_sdr(deep, int(picture.color_trc), int(picture.color_primaries), white)
    else:
        # By way of planar RGB more than 8 bits are exact; straight to rgb24 the scaler makes their white 253.
        is_deep = any(component.bits > 8 for component in picture.format.components)
        pixels = picture.to_ndarray(format="gbrp" if is_deep else "rgb24", **options)
    upright: NDArray[np.uint8] = orientation.applied(pixels)
    return upright


def _white_in_16_bits(pixel_format: av.VideoFormat) -> int:
    """Return what the scaler makes of white in `gbrp16le`: RGB's bits are moved up, and YUV comes out as 255 of 256."""
    bits = max(component.bits for component in pixel_format.components)
    return (2**bits - 1) << (16 - bits) if pixel_format.is_rgb else 255 << 8


def _with_chroma(picture: av.VideoFrame) -> av.VideoFrame:
    """Return a grey picture whose range is limited as one of 4:2:0; any other as it is.

    The scaler takes all grey for full range, whatever the film says: its black would be 16 and its white 235.
    """
    name = _COLOURED.get(picture.format.name)
    if name is None or int(picture.color_range) != ColorRange.MPEG:
        return picture
    yuv_picture, bits = av.VideoFrame(picture.width, picture.height, name), picture.format.components[0].bits
    kind = np.dtype("<u2" if bits > 8 else "u1")
    planes: Any = (picture.planes[0], *yuv_picture.planes)
    source, luma, *chroma = planes
    rows = np.frombuffer(source, kind).reshape(source.height, -1)[:, : source.width]
    target = np.frombuffer(luma, kind).reshape(luma.height, -1)
    target[:, : rows.shape[1]] = rows
    for plane in chroma:
        np.frombuffer(plane, kind)[:] = 1 << (bits - 1)
    yuv_picture.colorspace, yuv_picture.color_range = picture.colorspace, picture.color_range
    yuv_picture.color_primaries, yuv_picture.color_trc = picture.color_primaries, picture.color_trc
    return yuv_picture


def _check_opaque(picture: av.VideoFrame) -> None:
    alpha = next((component for component in picture.format.components if component.is_alpha), None)
    is_clear = alpha is not None and _least_alpha(picture, alpha) < 2 ** min(alpha.bits, 16) - 1
    # A palette's colours have alpha, too, which no component of its format tells.
    if is_clear or (picture.format.has_palette and picture.to_ndarray(format="rgba")[:, :, 3].min() < 255):
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


def _matrix_of(picture: av.VideoFrame) -> int:
    """Return a matrix that the scaler knows, or UNSPECIFIED. Raises VideoError for one that it would show wrong."""
    number = int(picture.colorspace)
    if number == _DERIVED:
        number = _DERIVED_MATRICES.get(int(picture.color_primaries), _DERIVED)
    elif number == UNSPECIFIED and tone_map.is_hdr(int(picture.color_trc)):
        number = BT2020  # high dynamic range knows no other (BT.2100)
    if number in _MATRICES:
        return number
    if number in _UNREAD_MATRICES and not picture.format.is_rgb:
        raise VideoError(
            f"the clip's colours are coded as {_UNREAD_MATRICES[number]}, which is not read; convert them first: "
            "ffmpeg -i in.mkv -vf zscale=matrix=709,format=yuv420p out.mp4"
        )
    return UNSPECIFIED


TRANSPARENT = (
    "the clip has transparent pixels; lay it on a colour first: "
    "ffmpeg -f lavfi -i color=black -i in.webm -filter_complex '[0][1]scale2ref[a][b];[a][b]overlay=shortest=1' out.mp4"
)
