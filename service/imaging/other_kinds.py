"""Names what bytes are that no decoder here takes, and says what their sender can do with them.

Knows neither limits nor errors. Sources: the formats' own first bytes, and ISO/IEC 14496-12 for brands.
"""

from __future__ import annotations

import re

UNKNOWN = "no picture of a kind that is known here"
_CLIP = "; a clip goes to POST /v1/video"
_AS_CLIP = "; as MP4 or WebM an animation can go to POST /v1/video"
_AS_JPEG = "; save or share it as JPEG"
_AS_PICTURE = "; of a camera's raw file (DNG, NEF, ARW) save a JPEG, of others a PNG"
_AS_FILE = "; send the file itself"
_AS_BYTES = "; send the bytes of the file, or put its base64 into JSON"
#: First bytes, and what begins so.
_BINARY_KINDS = (
    (b"GIF8", "GIF", _AS_CLIP),
    (b"II*\0\x10\0\0\0CR", "Canon's raw (CR2)", _AS_JPEG),
    (b"II*\0", "TIFF", _AS_PICTURE),
    (b"MM\0*", "TIFF", _AS_PICTURE),
    (b"II\x1a\0\0\0HEAPCCDR", "Canon's raw (CRW)", _AS_JPEG),
    (b"IIU\0", "Panasonic's raw (RW2)", _AS_JPEG),
    (b"IIR", "Olympus' raw (ORF)", _AS_JPEG),
    (b"MMOR", "Olympus' raw (ORF)", _AS_JPEG),
    (b"FUJIFILMCCD-RAW", "Fujifilm's raw (RAF)", _AS_JPEG),
    (b"FOVb", "Sigma's raw (X3F)", _AS_JPEG),
    (b"\0MRM", "Minolta's raw (MRW)", _AS_JPEG),
    (b"II\xbc\1", "JPEG XR", ""),
    (b"\x8aMNG", "MNG", _AS_CLIP),
    (b"SDPX", "DPX", ""),
    (b"XPDS", "DPX", ""),
    (b"gimp xcf", "GIMP's (XCF)", ""),
    (b"%!PS", "PostScript", ""),
    (b"II+\0", "BigTIFF", ""),
    (b"MM\0+", "BigTIFF", ""),
    (b"\0\0\0\x0cjP", "JPEG 2000", ""),
    (b"\xff\x4f\xff\x51", "JPEG 2000", ""),
    (b"\0\0\0\x0cJXL ", "JPEG XL", ""),
    (b"\xff\x0a", "JPEG XL", ""),
    (b"8BPS", "Photoshop (PSD)", ""),
    (b"v/1\x01", "OpenEXR", ""),
    (b"#?RADIANCE", "Radiance HDR", ""),
    (b"#?RGBE", "Radiance HDR", ""),
    (b"qoif", "QOI", ""),
    (b"DDS ", "DDS", ""),
    (b"\0\0\1\0", "ICO", ""),
    (b"icns", "ICNS", ""),
    (b"P1", "plain PBM", ""),
    (b"P2", "plain PGM", ""),
    (b"P3", "plain PPM", ""),
    (b"P4", "PBM", ""),
    (b"P7", "PAM", ""),
    (b"PF", "PFM", ""),
    (b"Pf", "PFM", ""),
    (b"%PDF", "PDF", ""),
    (b"\x93NUMPY", "a NumPy file", "; its pixels can be sent raw"),
    (b"PK\3\4", "a ZIP file", ""),
    (b"BZh", "compressed by bzip2", _AS_FILE),
    (b"\xfd7zXZ", "compressed by xz", _AS_FILE),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", _AS_FILE),
    (b"7z\xbc\xaf", "a 7-Zip file", ""),
    (b"Rar!", "a RAR file", ""),
    (b"\x1f\x8b", "compressed by gzip", _AS_FILE),
    (b"YUV4MPEG2", "Y4M video", _CLIP),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video", _CLIP),
    (b"FLV\1", "FLV video", _CLIP),
)
#: Of files of boxes, by the brands that one names.
_BRANDS = (
    ((b"avif", b"avis"), "AVIF", _AS_JPEG),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC", _AS_JPEG),
    ((b"crx ",), "Canon's raw (CR3)", _AS_JPEG),
    ((b"M4A ", b"M4B "), "MP4 sound", ""),
    ((b"qt  ",), "QuickTime video", _CLIP),
)
#: Texts, without blanks and byte order mark in front.
_TEXTS = (
    (re.compile(rb"<svg|<\?xml.{0,4000}?<svg", re.DOTALL | re.IGNORECASE), "SVG", ""),
    (re.compile(rb"<\?xml"), "XML", ""),
    (re.compile(rb"<!doctype html|<html", re.IGNORECASE), "an HTML page", ""),
    (re.compile(rb'[{\[]\s*["\d\[{]'), "JSON", ""),
    (re.compile(rb"(?:https?|ftp|rtsp|rtmp)://\S+\s*$"), "an address, and none is fetched", "; send the file itself"),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS", "; fetch the file itself: git lfs pull"),
    (re.compile(rb"data:image/|iVBORw0KGgo|/9j/|UklGR"), "a picture in base64", _AS_BYTES),
)
#: Bytes of the beginning that are looked at.
_START = 4096


def name(data: bytes) -> tuple[str, str]:
    """Return what the bytes are, for an error's sentence, and what its sender can do: empty, or from a semicolon on."""
    if data[4:8] == b"ftyp":
        return _boxes(data)
    if data.startswith(b"RIFF") and data[8:12] == b"AVI ":
        return "AVI video", _CLIP
    for magic, kind, advice in _BINARY_KINDS:
        if data.startswith(magic):
            return kind, advice
    text = data[:_START].removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, kind, advice in _TEXTS:
        if pattern.match(text):
            return kind, advice
    return UNKNOWN, ""


def _boxes(data: bytes) -> tuple[str, str]:
    """Name a file of boxes: AVIF and HEIC share the brand of all their kind, so every brand counts."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {bytes(data[8:12]), *(bytes(data[at : at + 4]) for at in range(16, end, 4))}
    for kind_brands, kind, advice in _BRANDS:
        if brands.intersection(kind_brands):
            return kind, advice
    return "MP4 video", _CLIP
