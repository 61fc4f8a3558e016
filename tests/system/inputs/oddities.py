"""Clips that a fresh pair of eyes brought: rarer pixels, broken tails, sounds, containers and clocks."""

from __future__ import annotations

from tests.system.inputs.films import KEPT, SILENT, SINE, TEST, X264
from tests.system.inputs.recipe import Clip, Expected, Picture
from tests.system.inputs.stills import IM

INTERLACED = "-f lavfi -i testsrc2=size=128x96:rate=50:duration=1,gblur=2 -vf interlace=scan={scan} -flags +ildct+ilme"

PIXELS = tuple(
    Clip(name, about, f"$FF {TEST} {options} {{out}}", expected)
    for name, about, options, expected in (
        ("ycgco.mkv", "YCgCo", "-c:v libx264 -pix_fmt yuv444p -colorspace ycgco", Expected(refused="YCgCo")),
        ("rgb264.mkv", "H.264 that holds RGB", "-c:v libx264rgb -crf 1", Expected()),
        ("pal8.avi", "raw frames with a palette", "-c:v rawvideo -pix_fmt pal8", Expected(step=0.1)),
        ("rgb555.avi", "raw frames of 15 bits", "-c:v rawvideo -pix_fmt rgb555le", Expected(step=0.1)),
        ("bgr0.mkv", "FFV1 of RGB with an unused byte", "-c:v ffv1 -pix_fmt bgr0", Expected()),
        ("opaque.mkv", "FFV1 with an opaque alpha channel", "-c:v ffv1 -pix_fmt yuva420p", Expected()),
        ("gray16.mkv", "FFV1, grey of 16 bits", "-c:v ffv1 -pix_fmt gray16le", Expected()),
        ("gbrp12.mkv", "FFV1, RGB of 12 bits", "-c:v ffv1 -pix_fmt gbrp12le -strict -2", Expected()),
        ("yuv16.mkv", "FFV1, 4:4:4 of 16 bits", "-c:v ffv1 -pix_fmt yuv444p16le", Expected()),
        (
            "h265-444-12.mp4",
            "HEVC 4:4:4 of 12 bits",
            "-c:v libx265 -x265-params log-level=error -pix_fmt yuv444p12le",
            Expected(),
        ),
        ("prores4444.mov", "ProRes 4444, opaque", "-c:v prores_ks -profile:v 4444 -pix_fmt yuv444p10le", Expected()),
        ("jpeg2000.mov", "JPEG 2000 in QuickTime", "-c:v jpeg2000 -pix_fmt rgb24", Expected()),
        ("dnxhr.mov", "DNxHR", "-vf scale=256:192 -c:v dnxhd -profile:v dnxhr_hq -pix_fmt yuv422p", Expected()),
        ("magicyuv.avi", "MagicYUV", "-c:v magicyuv -pix_fmt gbrp", Expected(step=0.1)),
        ("snow.avi", "Snow", "-c:v snow -q:v 2 -pix_fmt yuv420p", Expected(step=0.1)),
        (
            "smpte240.mkv",
            "SMPTE 240M",
            "-vf scale=out_color_matrix=smpte240m -c:v libx264 -pix_fmt yuv420p -colorspace smpte240m -color_primaries smpte240m -color_trc smpte240m",
            Expected(),
        ),
        (
            "sdr2020.mkv",
            "BT.2020 of 10 bits, not HDR",
            "-vf scale=out_color_matrix=bt2020,format=yuv420p10le -c:v libx265 -x265-params log-level=error:colorprim=bt2020:transfer=bt2020-10:colormatrix=bt2020nc",
            Expected(),
        ),
        ("yuvj422.avi", "motion JPEG of 4:2:2", "-c:v mjpeg -q:v 1 -pix_fmt yuvj422p", Expected(step=0.1)),
        ("cinepak.mov", "Cinepak", "-c:v cinepak -q:v 1", Expected(decibels=25)),
    )
)
INTERLACES = (
    Clip(
        "bff.mp4",
        "interlaced, bottom field first",
        f"$FF {INTERLACED.format(scan='bff')} -top 0 {X264} -x264opts bff=1 {{out}}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "inter.mpg",
        "interlaced MPEG-2",
        f"$FF {INTERLACED.format(scan='tff')} -top 1 -c:v mpeg2video -q:v 2 -f vob {{out}}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "inter.mov",
        "interlaced ProRes",
        f"$FF {INTERLACED.format(scan='tff')} -top 1 -c:v prores_ks {{out}}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "telecine.mkv",
        "film telecined to 30 frames",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=24000/1001:duration=1,gblur=2 -vf telecine -flags +ildct+ilme -top 1 -c:v mpeg2video -q:v 2 {out}",
        Expected(is_interlaced=True),
    ),
)
SHAPES = (
    Clip("turned-anam.mp4", "turned by 90, pixels of 64:45", "$FF -i anam.mp4 -c copy -metadata:s:v rotate=90 {out}"),
    Clip(
        "slanted.mp4",
        "turned by 45",
        "$FF -i base.mp4 -an -c copy upright.mp4; python3 -c \"import struct; b = open('upright.mp4', 'rb').read(); "
        "i = b.index(b'tkhd') + 44; m = struct.pack('>5i', 46341, 46341, 0, -46341, 46341); open('{out}', 'wb').write(b[:i] + m + b[i + 20:])\"",
        Expected(refused="angle"),
    ),
    Clip(
        "oddvp9.webm",
        "VP9 of odd sides, into WebM",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=10:duration=1,gblur=2 -vf scale=127:95 -c:v libvpx-vp9 -b:v 2M {out}",
        Expected(),
        "video/webm",
    ),
    Clip("heic.heic", "HEIC as a clip", "heif-enc -q 90 still.png -o {out} > /dev/null", Expected(refused="HEIC")),
    Clip("still.avif", "AVIF as a clip", "avifenc -s 10 still.png {out} > /dev/null", Expected(refused="AVIF")),
    Clip("flash.swf", "Flash", f"$FF {TEST} -c:v flv1 {{out}} || $FF {TEST} {{out}}", Expected(refused="SWF")),
    Clip(
        "tv.wtv",
        "Windows' recorded TV",
        f"$FF {TEST} -c:v mpeg2video -r 25 {{out}}",
        Expected(refused="no video that can be read"),
    ),
    Clip("sound.wav", "only sound, WAV", "cp base.wav {out}", Expected(refused="sound")),
    Clip("sound.mp3", "only sound, MP3", "$FF -i base.wav {out}", Expected(refused="sound")),
    Clip("sound.ogg", "only sound, Ogg", "$FF -i base.wav -c:a libvorbis {out}", Expected(refused="sound")),
)
CLOCKS = (
    Clip("one.mp4", "a single frame", f"$FF {TEST} -frames:v 1 {X264} {{out}}"),
    Clip("one.mkv", "a single frame", f"$FF {TEST} -frames:v 1 {X264} {{out}}"),
    Clip(
        "slow.mp4",
        "a frame every ten seconds",
        f"$FF -f lavfi -i testsrc2=size=128x96:rate=1/10:duration=50,gblur=2 {X264} {{out}}",
    ),
    Clip(
        "fast.mp4",
        "1,000 frames a second",
        f"$FF -f lavfi -i testsrc2=size=128x96:rate=1000:duration=0.05,gblur=2 {X264} {{out}}",
    ),
    Clip("micro.mp4", "times in microseconds", f"$FF {TEST} {X264} -video_track_timescale 1000000 {{out}}"),
    Clip("nano.mkv", "times in microseconds, in Matroska", "mkvmerge -q --timestamp-scale 1000 -o {out} base.mp4"),
    Clip(
        "copycut.mp4",
        "cut by copying, so that an edit list hides frames",
        f"$FF {TEST} {SINE} {X264} -g 50 -bf 2 -c:a aac -shortest whole.mp4; $FF -ss 0.75 -i whole.mp4 -c copy {{out}}",
    ),
    Clip(
        "latefilm.mp4",
        "pictures half a second after the sound",
        "$FF -itsoffset 0.5 -i base.mp4 -i base.mp4 -map 0:v -map 1:a -c copy {out}",
    ),
    Clip(
        "open.ts",
        "recorded from the midst of a group of pictures",
        f"$FF {TEST} {X264} -g 10 -bf 2 group.ts; tail -c +$((188 * 40 + 1)) group.ts > {{out}}",
    ),
    Clip("bluray.m2ts", "packets of 192 bytes", f"$FF {TEST} {SINE} {X264} -c:a ac3 -shortest {{out}}"),
    Clip(
        "pauses.mkv",
        "sound with a pause",
        f"$FF {TEST} {SINE} -af \"aselect='not(between(t,0.5,1.2))'\" {X264} -c:a aac -shortest {{out}}",
    ),
    Clip(
        "longsound.mp4",
        "sound twice as long as the pictures",
        f"$FF {TEST} -f lavfi -i sine=duration=4 {X264} -c:a aac {{out}}",
    ),
)
TAILS = (
    Clip(
        "cut-index-first.mp4",
        "an MP4 cut short, its index in front",
        "$FF -i base.mp4 -c copy -movflags +faststart whole.mp4; head -c $(($(stat -c %s whole.mp4) * 6 / 10)) whole.mp4 > {out}",
        Expected(refused="cut short"),
    ),
    Clip(
        "cut.mp4",
        "an MP4 without its index, as a crashed recorder leaves",
        "head -c $(($(stat -c %s base.mp4) * 6 / 10)) base.mp4 > {out}",
        Expected(refused="index"),
    ),
    Clip(
        "cut.mkv",
        "a Matroska cut short",
        "$FF -i base.mp4 -c copy whole.mkv; head -c $(($(stat -c %s whole.mkv) * 6 / 10)) whole.mkv > {out}",
    ),
    Clip("cut.ts", "an MPEG-TS cut within a packet", "head -c $(($(stat -c %s a.ts) * 6 / 10)) a.ts > {out}"),
    Clip(
        "cut.avi",
        "an AVI without its index",
        f"$FF {TEST} -c:v mjpeg -q:v 2 whole.avi; head -c $(($(stat -c %s whole.avi) * 6 / 10)) whole.avi > {{out}}",
        Expected(frames=11, step=0.1),
    ),
    Clip(
        "cut-fragment.mp4",
        "a fragmented MP4 cut within a fragment",
        f"$FF {TEST} {X264} -g 5 -movflags frag_keyframe+empty_moov whole.mp4; head -c $(($(stat -c %s whole.mp4) * 6 / 10)) whole.mp4 > {{out}}",
    ),
    Clip(
        "cut.webm",
        "a WebM cut short",
        f"$FF {TEST} -c:v libvpx -b:v 2M whole.webm; head -c $(($(stat -c %s whole.webm) * 6 / 10)) whole.webm > {{out}}",
    ),
    Clip(
        "cut.y4m", "a y4m cut within a frame", "head -c 100000 base.y4m > {out}", Expected(refused="ends inside frame")
    ),
    Clip(
        "holes.mp4",
        "zeros within the film",
        "python3 -c \"b = bytearray(open('base.mp4', 'rb').read()); i = b.index(b'mdat') + 5000; b[i:i + 3000] = bytes(3000); open('{out}', 'wb').write(b)\"",
        Expected(refused="damaged"),
    ),
    Clip("rubbish.mp4", "bytes behind the end", "(cat base.mp4; head -c 5000 base.wav) > {out}"),
    Clip(
        "secret.mp4",
        "encrypted (CENC)",
        "$FF -i base.mp4 -c copy -encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb -encryption_kid a7e61c373e219033c21091fa607bf3b8 {out}",
        Expected(refused="encrypted"),
    ),
)


def _sound(name: str, about: str, codec: str, expected: Expected = KEPT) -> Clip:
    return Clip(name, about, f"$FF {TEST} {SINE} {X264} {codec} -shortest {{out}}", expected)


SOUNDS = (
    _sound("eac3.mkv", "E-AC-3 of six channels", "-ac 6 -c:a eac3"),
    _sound("dts.mkv", "DTS", "-c:a dca -strict -2 -ar 48000", Expected()),
    _sound("alac.mov", "Apple Lossless", "-c:a alac"),
    _sound(
        "pcm24.mov",
        "PCM of 24 bits, which ffprobe 5.1 takes for 16 in MP4",
        "-c:a pcm_s24le",
        Expected(sounds=("pcm_s16le",)),
    ),
    _sound(
        "float.mkv",
        "PCM of floats, which ffprobe 5.1 does not know in MP4",
        "-c:a pcm_f32le",
        Expected(sounds=("unknown",)),
    ),
    _sound("wavpack.mkv", "WavPack", "-c:a wavpack", SILENT),
    _sound("s302m.ts", "SMPTE 302M of broadcasts", "-ar 48000 -ac 2 -c:a s302m -strict -2", SILENT),
    _sound("mp3.avi", "MP3 in AVI", "-bf 0 -c:a libmp3lame"),
    _sound("speex.mkv", "Opus at 16 kHz", "-ar 16000 -c:a libopus", Expected()),
    _sound("opus8.mkv", "Opus of eight channels", "-ac 8 -ar 48000 -c:a libopus -mapping_family 1", Expected()),
    _sound("truehd.mkv", "TrueHD", "-c:a truehd -strict -2", SILENT),
    _sound("timecode.mov", "with a track of timecodes", "-c:a aac -timecode 01:00:00:00"),
    Clip(
        "mov-text.mp4",
        "with MPEG-4 subtitles",
        "$FF -i base.mp4 -i word.srt -map 0 -map 1 -c copy -c:s mov_text {out}",
        Expected(note="left out"),
    ),
    Clip(
        "many.mkv",
        "eight sounds",
        "$FF -i base.mp4 $(printf -- '-map 0:a %.0s' 1 2 3 4 5 6 7 8) -map 0:v -c copy {out}",
    ),
)
CLIPS = (*PIXELS, *INTERLACES, *SHAPES, *CLOCKS, *TAILS, *SOUNDS)

PICTURES = (
    Picture(
        "motion.jpg",
        "a phone's photo with four megabytes of clip behind it",
        '(cat still.jpg; python3 -c "import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(4000000))") > {out}',
    ),
    Picture(
        "grey-key.png",
        "PNG of 2 bits, one of its greys transparent",
        f"{IM} still.png -colorspace gray -colors 4 -depth 2 -define png:color-type=0 -define png:bit-depth=2 grey2.png; "
        "python3 -c \"import struct, zlib; b = open('grey2.png', 'rb').read(); i = b.index(b'IDAT') - 4; t = b'tRNS' + bytes([0, 2]); "
        "open('{out}', 'wb').write(b[:i] + struct.pack('>I', 2) + t + struct.pack('>I', zlib.crc32(t)) + b[i:])\"",
        "transparent",
    ),
    Picture("still.ico", "ICO", f"{IM} still.png -resize 64x48 {{out}}", "ICO"),
    Picture("still.psd", "Photoshop", f"{IM} still.png {{out}}", "Photoshop"),
    Picture("still.exr", "OpenEXR", "$FF -i still.png {out}", "OpenEXR"),
    Picture("still.hdr", "Radiance HDR", f"{IM} still.png {{out}}", "Radiance"),
    Picture("still.qoi", "QOI", "$FF -i still.png {out}", "QOI"),
    Picture(
        "cut.webp",
        "WebP cut in half",
        "head -c $(($(stat -c %s lossless.webp) / 2)) lossless.webp > {out}",
        "truncated",
    ),
    Picture(
        "inkscape.svg",
        "SVG after an XML declaration",
        'echo \'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>\' > {out}',
        "SVG",
    ),
    Picture(
        "error.html.png", "a page that says 404, saved as a picture", "echo '<!DOCTYPE html><p>404' > {out}", "HTML"
    ),
    Picture("base64.png.txt", "a picture in base64, sent as a file", "base64 still.png > {out}", "base64"),
    Picture("still.png.gz", "a picture compressed by gzip", "gzip -c still.png > {out}", "gzip"),
)
