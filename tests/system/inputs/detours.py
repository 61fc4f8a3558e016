"""Clips that say in a roundabout way what they are: grey, ranges, matrices, edit lists, joined recordings."""

from __future__ import annotations

from tests.system.inputs.films import SINE, TEST, X264
from tests.system.inputs.oddities import INTERLACED
from tests.system.inputs.recipe import Clip, Expected

X265 = "-c:v libx265 -x265-params log-level=error"
TAGS_709 = "-colorspace bt709 -color_primaries bt709 -color_trc bt709"
#: Four numbers of a display matrix in place of those of the track of an MP4.
MATRIX = (
    "$FF -i base.mp4 -an -c copy upright.mp4; python3 -c \"import struct; b = open('upright.mp4', 'rb').read(); i = b.index(b'tkhd') + 44; "
    "m = struct.pack('>9i', {}, 0, {}, 0, 0, 0, 1 << 30); open('{{out}}', 'wb').write(b[:i] + m + b[i + 36:])\""
)

COLOURS = tuple(
    Clip(name, about, f"$FF {TEST} {options} {{out}}", expected)
    for name, about, options, expected in (
        ("gray10.mkv", "HEVC, grey of 10 bits", f"{X265} -pix_fmt gray10le", Expected()),
        (
            "vp9-full.webm",
            "VP9 of full range",
            "-vf scale=out_range=full -c:v libvpx-vp9 -b:v 2M -pix_fmt yuv420p -color_range pc",
            Expected(),
        ),
        (
            "hevc-full.mp4",
            "HEVC of full range, 10 bits",
            f"-vf scale=out_range=full,format=yuv420p10le {X265}:range=full -color_range pc",
            Expected(),
        ),
        (
            "mjpeg-tv.mkv",
            "motion JPEG of limited range",
            "-c:v mjpeg -q:v 1 -pix_fmt yuv420p -color_range tv -strict unofficial",
            Expected(),
        ),
        (
            "nclc.mov",
            "colours told by the container alone",
            f"-vf scale=out_color_matrix=bt709 -c:v mpeg4 -q:v 1 {TAGS_709} -movflags write_colr",
            Expected(),
        ),
        (
            "constant.mkv",
            "BT.2020 of constant luminance",
            f"{X264} -colorspace bt2020c -color_primaries bt2020",
            Expected(refused="constant luminance"),
        ),
        (
            "pq-p3.mkv",
            "PQ with P3's primaries",
            f"-vf format=yuv420p10le {X265}:colorprim=smpte432:transfer=smpte2084:colormatrix=bt2020nc",
            Expected(is_mapped=True),
        ),
        ("v210.mov", "raw 4:2:2 of 10 bits", "-c:v v210", Expected()),
        ("cineform.mov", "CineForm, RGB of 12 bits", "-c:v cfhd -pix_fmt gbrp12le", Expected()),
        (
            "dv411.mov",
            "DV of NTSC, 4:1:1",
            "-vf scale=720:480 -r 30000/1001 -c:v dvvideo -pix_fmt yuv411p",
            Expected(is_interlaced=True),
        ),
        (
            "hap.mov",
            "Hap with an opaque alpha channel",
            "-vf format=rgba -c:v hap -format hap_alpha",
            Expected(decibels=25),
        ),
    )
)
SHAPES = (
    Clip(
        "clear-palette.mov",
        "PNG with a palette, one of its colours transparent",
        "convert-im6.q16 other.png -resize 128x96\\! -colors 60 -fuzz 20% -transparent black PNG8:palette8.png; "
        "$FF -loop 1 -framerate 10 -t 1 -i palette8.png -c:v png -pix_fmt pal8 {out}",
        Expected(refused="transparent"),
    ),
    Clip("mirrored270.mp4", "turned by 270 and mirrored", MATRIX.format("0, 65536", "65536, 0")),
    Clip("stretched.mp4", "its track stretched twofold", MATRIX.format("131072, 0", "0, 65536")),
    Clip(
        "inter709.mp4",
        "interlaced, BT.709 in a small picture",
        f"$FF {INTERLACED.format(scan='tff').replace(' -flags', ',scale=out_color_matrix=bt709:interl=1 -flags')} -top 1 {X264} {TAGS_709} {{out}}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "inter10.mkv",
        "interlaced, 4:2:2 of 10 bits",
        f"$FF {INTERLACED.format(scan='tff')} -top 1 -c:v libx264 -pix_fmt yuv422p10le {{out}}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "wide-pixels.mp4",
        "pixels of 100:1, into WebM",
        f"$FF {TEST} -vf setsar=100/1 {X264} {{out}}",
        Expected(refused="made square"),
        "video/webm",
    ),
)
CLOCKS = (
    Clip(
        "parts.mp4",
        "an edit list of two parts",
        f"$FF {TEST} {X264} -bf 0 whole.mp4; python3 -c \"import struct; b = open('whole.mp4', 'rb').read(); moov = b.rindex(b'moov') - 4; "
        "trak, tkhd, mdhd = (b.index(name, moov) - 4 for name in (b'trak', b'tkhd', b'mdhd')); size = lambda at: int.from_bytes(b[at:at + 4], 'big'); "
        "unit = size(mdhd + 20); at = tkhd + size(tkhd); end = at + size(at) if b[at + 4:at + 8] == b'edts' else at; "
        "edts = struct.pack('>I4sI4sII6I', 48, b'edts', 40, b'elst', 0, 2, 500, 0, 1 << 16, 700, unit, 1 << 16); "
        "grown = len(edts) - (end - at); d = bytearray(b[:at] + edts + b[end:]); "
        "[struct.pack_into('>I', d, box, size(box) + grown) for box in (moov, trak)]; open('{out}', 'wb').write(d)\"",
    ),
    Clip(
        "joined.mkv",
        "two Matroska files, one behind the other",
        "cat mkvmerge.mkv mkvmerge.mkv > {out}",
        Expected(frames=40, step=0.1, tolerance=0.06),
    ),
    Clip(
        "joined.flv",
        "two FLV files, one behind the other",
        "$FF -i base.mp4 -c copy one.flv; (cat one.flv; tail -c +14 one.flv) > {out}",
        Expected(frames=40, step=0.1, tolerance=0.06),
    ),
    Clip(
        "pulldown.mpg",
        "film of 24 frames in MPEG-2 with its flags for 30",
        "$FF -f lavfi -i testsrc2=size=352x240:rate=24000/1001:duration=1,gblur=2 -f yuv4mpegpipe -pix_fmt yuv420p film.y4m; "
        "mpeg2enc -v 0 -p -f 3 -b 6000 -q 3 -F 4 -o film.m2v < film.y4m 2> /dev/null; mplex -v 0 -f 3 -o {out} film.m2v 2> /dev/null",
        Expected(tolerance=0.02),
    ),
    Clip(
        "negative.mp4",
        "frames shown before they are decoded",
        f"$FF {TEST} {X264} -bf 2 -movflags negative_cts_offsets {{out}}",
    ),
)


def _joined_sound(name: str, about: str, first: str, second: str, expected: Expected) -> Clip:
    parts = "; ".join(
        f"$FF {TEST} {SINE} {X264} {options} -c:a aac -shortest {file}"
        for options, file in ((first, "first.ts"), (second, "second.ts"))
    )
    return Clip(name, about, f"{parts}; cat first.ts second.ts > {{out}}", expected)


SOUNDS = (
    _joined_sound(
        "channels.ts",
        "two recordings joined, the second with two channels",
        "-ac 1",
        "-ac 2",
        Expected(frames=40, step=0.1, tolerance=0.06),
    ),
    Clip(
        "latm.ts",
        "AAC in LATM",
        f"$FF {TEST} {SINE} {X264} -c:a aac -mpegts_flags latm -shortest {{out}}",
        Expected(note="left out", has_sound=False),
    ),
    Clip("vorbis51.mkv", "Vorbis of six channels", f"$FF {TEST} {SINE} {X264} -ac 6 -c:a libvorbis -shortest {{out}}"),
)

CLIPS = (*COLOURS, *SHAPES, *CLOCKS, *SOUNDS)
