"""What an image file says of itself, read without decoding a pixel.

Knows neither Pillow nor limits: sizes and oddities come from the bytes, so that a file is refused before anything is
allocated for it. What decoding does not need (profiles, text, thumbnails, animation) is left out of `essential`:
the decoder behind never parses it, so it can neither warn nor unpack a bomb hidden there.
Sources: PNG (third edition) and APNG, ITU-T T.81, the WebP container, Exif 2.3, Netpbm's ppm(5), Windows DIB headers.
"""

from __future__ import annotations

import enum
import re
import struct
import zlib
from dataclasses import dataclass

from service.core.errors import InvalidFrame, UnsupportedMedia
from service.imaging import other_kinds


class Kind(enum.StrEnum):
    """The formats that are read; the values are Pillow's names."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    BMP = "BMP"
    ANYMAP = "PPM"  #: P5 and P6, the binary grey and colour maps


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Pixels are `width`x`height` as stored; Exif's `orientation` (1..8) says how to turn them upright."""

    kind: Kind
    width: int
    height: int
    essential: bytes  #: the file without its metadata
    orientation: int = 1
    offset: int = 0  #: of the first pixel (anymaps)
    channels: int = 3  #: anymaps
    maxval: int = 255  #: anymaps


#: Real files have dozens; without a bound a file of empty chunks would keep a thread busy for seconds.
MAX_CHUNKS = 20_000
#: An encoder's default is 10 scans. Each scan may touch every pixel, so thousands of tiny ones are an attack.
MAX_SCANS = 40

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
#: Transfer curves of ISO/IEC 23091-2 whose numbers mean far more light than SDR's.
_HDR_CURVES = (16, 18)
#: Before cICP there was this name of a profile, which stands for PQ whatever the profile holds.
_PQ_PROFILE = b"ITUR_2100_PQ_FULL\0"
_BLANK = rb"(?:[ \t\r\n]|#[^\r\n]{0,512}[\r\n])+"
_ANYMAP = re.compile(rb"P([56])" + (_BLANK + rb"(\d{1,7})") * 3 + rb"[ \t\r\n]")
#: A marker amid compressed data is neither a stuffed zero nor a restart; bytes that fill may stand before it.
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_TEM, _EOI, _SOS = 0x01, 0xD9, 0xDA
_LS = 0xF7  #: begins the frame of a JPEG-LS
_LONG = 4  #: Exif's number of this type
#: What can be done with pictures that move.
_AS_CLIP = "; as MP4 or WebM an animation can go to POST /v1/video"


def read(data: bytes, field: str) -> ImageHeader:
    """Read the header of `data`. Raises InvalidFrame or UnsupportedMedia naming `field`."""
    try:
        if data.startswith(_PNG):
            return _png(data, field)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data, field)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data, field)
        if data.startswith(b"BM"):
            return _bmp(data, field)
        if data.startswith((b"P5", b"P6")):
            return _anymap(data, field)
    except struct.error:
        raise truncated(field) from None
    kind, advice = other_kinds.name(data)
    raise UnsupportedMedia(f"{field} is {kind}; PNG, JPEG, WebP, BMP, PPM and PGM are read{advice}", field=field)


def truncated(field: str) -> InvalidFrame:
    """Build the error of a file that ends before its picture does."""
    return InvalidFrame(f"{field} is truncated", field=field)


def damaged(field: str) -> InvalidFrame:
    """Build the error of a file that contradicts its own format."""
    return InvalidFrame(f"{field} is damaged: it cannot be decoded", field=field)


def _animated(field: str) -> InvalidFrame:
    return InvalidFrame(f"{field} is animated; send two of its frames as still images{_AS_CLIP}", field=field)


def _png(data: bytes, field: str) -> ImageHeader:
    length, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if name == b"CgBI":
        why = f"{field} is a PNG in a form of Apple's own (CgBI), as its apps hold them; save it as PNG anew"
        raise UnsupportedMedia(why, field=field)
    if name != b"IHDR" or length != 13:
        raise damaged(field)
    chunks = [data[:8]]
    names: set[bytes] = set()
    orientation, at = 1, 8
    for _ in range(MAX_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise truncated(field)
        if name == b"acTL" and length >= 4 and struct.unpack_from(">I", data, at + 8)[0] > 1:
            raise _animated(field)
        if name == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        if name in (b"cICP", b"iCCP"):
            _check_png_colours(name, data[at + 8 : end - 4], field)
        if name in _PNG_NEEDED:
            is_key = name == b"tRNS" and length == 2 and colour == 0 and bits in (2, 4)
            chunks.append(_scaled_key(data[at:end], bits) if is_key else data[at:end])
            names.add(name)
        if name == b"IEND":
            break
        at = end
    if not {b"IDAT", b"IEND"} <= names:
        raise damaged(field)
    if bits == 16 and b"tRNS" in names:
        # Pillow compares the 16-bit colour key with pixels it has already cut to 8 bits.
        raise InvalidFrame(f"{field} marks a 16-bit colour as transparent, which is not read", field=field)
    if colour not in (0, 2, 3, 4, 6):
        raise damaged(field)
    return ImageHeader(Kind.PNG, width, height, b"".join(chunks), orientation)


def _check_png_colours(name: bytes, content: bytes, field: str) -> None:
    """Raise InvalidFrame where a chunk says that numbers mean other light than SDR's of full range."""
    is_coded = name == b"cICP" and len(content) == 4
    if (is_coded and content[1] in _HDR_CURVES) or (name == b"iCCP" and content.startswith(_PQ_PROFILE)):
        raise InvalidFrame(f"{field} is HDR (PQ or HLG), which is not read; save it as SDR", field=field)
    if is_coded and content[3] == 0:
        raise InvalidFrame(f"{field} is of limited range (16 to 235), which is not read; save it as full", field=field)


def _scaled_key(chunk: bytes, bits: int) -> bytes:
    """Return the chunk of a grey that is transparent, as of 8 bits: Pillow compares it with pixels that it widened."""
    (key,) = struct.unpack_from(">H", chunk, 8)
    name_and_data = b"tRNS" + struct.pack(">H", min(0xFFFF, key * 255 // (2**bits - 1)))
    return chunk[:4] + name_and_data + struct.pack(">I", zlib.crc32(name_and_data))


def _jpeg(data: bytes, field: str) -> ImageHeader:
    segments = [data[:2]]
    size: tuple[int, int] | None = None
    orientation, at = 1, 2
    for _ in range(MAX_CHUNKS):
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        prefix, marker = struct.unpack_from(">BB", data, at)
        if prefix != 0xFF or marker in (0x00, 0xD8, 0xD9):
            raise damaged(field)
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2:
            raise damaged(field)
        if end > len(data):
            raise truncated(field)
        if marker == 0xDA:
            if size is None:
                raise damaged(field)
            segments.append(data[at : _jpeg_end(data, at, field)])
            return ImageHeader(Kind.JPEG, size[0], size[1], b"".join(segments), orientation)
        if marker == _LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if size is not None:
                raise damaged(field)
            size = _jpeg_size(data, at, marker, field)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0" and orientation == 1:
            orientation = _orientation(data[at + 10 : end])
        # Tables, frame header, and the two that say how colours are coded (JFIF, Adobe).
        if marker < 0xE0 or (marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0") or marker == 0xEE:
            segments.append(data[at:end])
        at = end
    raise damaged(field)


def _jpeg_end(data: bytes, at: int, field: str) -> int:
    """Return where the picture whose first scan is `at` ends: phones put clips and other pictures behind it.

    Raises InvalidFrame for more than MAX_SCANS scans.
    """
    scans = 0
    for _ in range(MAX_CHUNKS):
        match = _MARKER.search(data, at)
        if match is None:
            break
        marker, at = match[1][0], match.end()
        if marker == _EOI:
            return at
        scans += marker == _SOS
        if scans > MAX_SCANS:
            raise InvalidFrame(f"{field} has more than {MAX_SCANS} scans", field=field)
        if marker != _TEM:
            at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def _jpeg_size(data: bytes, at: int, marker: int, field: str) -> tuple[int, int]:
    bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
    if marker not in (0xC0, 0xC1, 0xC2) or bits != 8:
        raise UnsupportedMedia(f"{field} is a JPEG that is not 8-bit baseline or progressive", field=field)
    if components == 4:
        raise InvalidFrame(f"{field} is CMYK, whose colours mean nothing without its profile; send RGB", field=field)
    if components not in (1, 3):
        raise damaged(field)
    return width, height


def _webp(data: bytes, field: str) -> ImageHeader:
    name = data[12:16]
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise truncated(field)
    if name == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise damaged(field)
        return ImageHeader(Kind.WEBP, width & 0x3FFF, height & 0x3FFF, data)
    if name == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise damaged(field)
        return ImageHeader(Kind.WEBP, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, data)
    if name != b"VP8X":
        raise damaged(field)
    flags, canvas = struct.unpack_from("<B3x6s", data, 20)
    if flags & 0x02:
        raise _animated(field)
    width, height = (int.from_bytes(canvas[i : i + 3], "little") + 1 for i in (0, 3))
    return ImageHeader(Kind.WEBP, width, height, data, _orientation(_riff_chunk(data, b"EXIF")))


def _riff_chunk(data: bytes, chunk_name: bytes) -> bytes:
    """Return the first chunk of that name, or nothing."""
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name == chunk_name:
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""


def _bmp(data: bytes, field: str) -> ImageHeader:
    (kind,) = struct.unpack_from("<I", data, 14)
    if kind == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return ImageHeader(Kind.BMP, width, height, data)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if kind < 40 or width < 0:
        raise damaged(field)
    if compression not in (0, 3):
        # Run-length coding is decoded by Python loops in Pillow: seconds for one picture.
        raise UnsupportedMedia(f"{field} is a compressed BMP; only uncompressed ones are read", field=field)
    return ImageHeader(Kind.BMP, width, abs(height), data)  # a negative height: rows from the top


def _anymap(data: bytes, field: str) -> ImageHeader:
    match = _ANYMAP.match(data, 0, 4096)
    if match is None:
        raise damaged(field)
    digit, width, height, maxval = (int(group) for group in match.groups())
    if not 1 <= maxval <= 65535:
        raise damaged(field)
    channels = 3 if digit == 6 else 1
    return ImageHeader(Kind.ANYMAP, width, height, data, offset=match.end(), channels=channels, maxval=maxval)


def _orientation(exif: bytes) -> int:
    """Read tag 0x0112 of the first directory, else return 1: damaged metadata does not spoil a picture."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for i in range(min(entries, 512)):
            tag, kind, _ = struct.unpack_from(order + "HHI", exif, start + 2 + 12 * i)
            if tag == 0x0112:
                # A LONG where the standard wants a SHORT: some writers know no other number.
                (value,) = struct.unpack_from(order + ("I" if kind == _LONG else "H"), exif, start + 10 + 12 * i)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
