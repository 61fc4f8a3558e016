"""Clips of the kinds that once failed, in other containers, codecs and clocks: what the first of a kind does not show."""

from __future__ import annotations

from tests.system.inputs.films import KEPT, SILENT, SINE, TEST, X264
from tests.system.inputs.recipe import Clip, Expected

#: A film of half a second whose last frame stays for three more, as pictures with times.
STILL_END = (
    "$FF -i base.mp4 -an -frames:v 5 still%d.png; for k in 1 2 3 4; do printf 'file still%d.png\\nduration 0.1\\n' $k; done > still.txt; "
    "printf 'file still5.png\\nduration 3\\nfile still5.png\\n' >> still.txt; "
    "$FF -f concat -i still.txt -frames:v 5 -vsync vfr "
)
#: Times of joined recordings: where the join lies is not told.
JOINED = Expected(frames=40, step=0.1, tolerance=0.06)

COVERS = (
    Clip(
        "cover-mjpeg.mkv",
        "a cover, not marked as one, before a film of motion JPEG",
        "$FF -i cover.png -i base.mp4 -map 0:v -map 1:v -map 1:a -c:v:0 png -c:v:1 mjpeg -q:v:1 1 -pix_fmt:v:1 yuvj420p -c:a copy {out}",
        Expected(note="second film"),
    ),
    Clip(
        "cover.mov",
        "a JPEG, not marked as cover, before a film of PNG",
        "$FF -i small.jpg -i base.mp4 -map 0:v -map 1:v -c:v:0 copy -c:v:1 png -pix_fmt:v:1 rgb24 {out}",
        Expected(note="still picture"),
    ),
    Clip(
        "cover.ogv",
        "Theora with a cover in Vorbis' comments",
        "$FF -i base.mp4 -c:v libtheora -q:v 10 -c:a libvorbis -metadata:s:a \"METADATA_BLOCK_PICTURE=$(python3 -c '\n"
        'import base64, struct; d = open("cover.png", "rb").read(); m = b"image/png"\n'
        'print(base64.b64encode(struct.pack(">II", 3, len(m)) + m + struct.pack(">6I", 0, 64, 64, 24, 0, len(d)) + d).decode())\n'
        "')\" {out}",
    ),
    Clip(
        "moving.avif",
        "an animated AVIF, which begins with a still picture",
        "$FF -i base.mp4 -an -frames:v 5 -c:v libaom-av1 -cpu-used 8 -crf 20 {out}",
        Expected(note="still picture"),
    ),
    Clip(
        "song.ogg",
        "a song in Ogg with a cover in its comments",
        "$FF -i cover.ogv -map 0:a -c copy {out}",
        Expected(refused="only sound"),
    ),
    Clip(
        "song.mka",
        "a song in Matroska with a cover attached",
        "$FF -i base.wav -c:a flac -attach cover.png -metadata:s:t mimetype=image/png -metadata:s:t filename=cover.png {out}",
        Expected(refused="only sound"),
    ),
    Clip("song.wma", "a song in ASF", "$FF -i base.wav -c:a wmav2 {out}", Expected(refused="only sound")),
    Clip("song.flac", "a song in FLAC", "$FF -i base.wav {out}", Expected(refused="only sound")),
)


UNKNOWN_SOUND = Expected(note="cannot be read", has_sound=False)
UNKNOWN_SOUNDS = (
    Clip(
        "ac4.mp4",
        "its only sound is AC-4",
        "python3 -c \"b = open('base.mp4', 'rb').read(); open('{out}', 'wb').write(b.replace(b'mp4a', b'ac-4').replace(b'esds', b'dac4'))\"",
        UNKNOWN_SOUND,
    ),
    Clip(
        "unknown.mkv",
        "its only sound is of a made-up kind",
        "$FF -i base.mp4 -c copy known.mkv; python3 -c \"b = open('known.mkv', 'rb').read(); open('{out}', 'wb').write(b.replace(b'A_AAC', b'A_XYZ'))\"",
        UNKNOWN_SOUND,
    ),
    Clip(
        "unknown.avi",
        "its only sound has a made-up number",
        f"$FF {TEST} {SINE} -c:v mjpeg -q:v 1 -c:a libmp3lame -shortest known.avi; "
        "python3 -c \"b = bytearray(open('known.avi', 'rb').read()); i = b.rindex(b'strf', 0, b.index(b'movi')) + 8; "
        "b[i:i + 2] = bytes([0x34, 0x77]); open('{out}', 'wb').write(b)\"",
        UNKNOWN_SOUND,
    ),
)


def _sound(name: str, about: str, codec: str, expected: Expected = KEPT, film: str = X264) -> Clip:
    return Clip(name, about, f"$FF {TEST} {SINE} {film} {codec} -shortest {{out}}", expected)


SOUNDS = (
    _sound("wma.wmv", "WMA", "-c:a wmav2", SILENT, "-c:v wmv2 -q:v 2"),
    _sound("nelly.flv", "Nellymoser of old web cameras", "-ar 22050 -ac 1 -c:a nellymoser", SILENT),
    _sound("speex.ogv", "Speex", "-ar 16000 -ac 1 -c:a libspeex", SILENT, "-c:v libtheora -q:v 10"),
    _sound(
        "alaw.avi",
        "A-law",
        "-ar 8000 -ac 1 -c:a pcm_alaw",
        Expected(note="left out", has_sound=False, step=0.1),
        f"{X264} -bf 0",
    ),
    _sound("g726.mkv", "G.726 of a telephone", "-ar 8000 -ac 1 -c:a g726", SILENT),
    _sound(
        "gsm.avi",
        "GSM",
        "-ar 8000 -ac 1 -c:a libgsm_ms",
        Expected(note="left out", has_sound=False, step=0.1),
        f"{X264} -bf 0",
    ),
    _sound("dvd.vob", "PCM of a DVD", "-r 25 -ar 48000 -ac 2 -c:a pcm_dvd -f vob", SILENT, "-c:v mpeg2video -q:v 2"),
    _sound("pcm.m2ts", "PCM of a Blu-ray", "-ar 48000 -ac 2 -c:a pcm_bluray", SILENT),
    _sound("eight.mov", "PCM of 8 bits in QuickTime", "-c:a pcm_s8", SILENT),
    _sound(
        "big.mov",
        "PCM of big-endian floats, which ffprobe 5.1 does not know in MP4",
        "-c:a pcm_f64be",
        Expected(sounds=("unknown",)),
    ),
    Clip(
        "languages.webm",
        "two Opus sounds with languages, the second the default, into WebM",
        f"$FF {TEST} {SINE} {SINE} -map 0 -map 1 -map 2 -c:v libvpx -b:v 2M -c:a libopus -shortest -metadata:s:a:0 language=ger "
        "-metadata:s:a:1 language=jpn -disposition:a:0 0 -disposition:a:1 default {out}",
        Expected(languages=("ger", "jpn")),
        "video/webm",
    ),
    Clip(
        "languages.ts",
        "two MP3 sounds with languages in MPEG-TS, into Matroska",
        f"$FF {TEST} {SINE} {SINE} -map 0 -map 1 -map 2 {X264} -c:a libmp3lame -shortest -metadata:s:a:0 language=fin "
        "-metadata:s:a:1 language=por {out}",
        Expected(languages=("fin", "por")),
        "video/x-matroska",
    ),
)

CLOCKS = (
    Clip("still-end.mkv", "a last frame of three seconds, in Matroska", f"{STILL_END} {X264} -bf 0 {{out}}"),
    Clip(
        "still-end.webm",
        "a last frame of three seconds, in WebM",
        f"{STILL_END} -c:v libvpx-vp9 -b:v 2M -pix_fmt yuv420p {{out}}",
    ),
    Clip("still-end.mov", "a last frame of three seconds, with B-frames", f"{STILL_END} {X264} -bf 2 {{out}}"),
    Clip(
        "twice.m2ts",
        "two Blu-ray recordings joined, with AC-3",
        f"$FF {TEST} {SINE} {X264} -c:a ac3 -shortest one.m2ts; cat one.m2ts one.m2ts > {{out}}",
        JOINED,
    ),
    Clip(
        "twice.mpg",
        "two MPEG program streams joined",
        f"$FF {TEST} -vf fps=25 -c:v mpeg2video -q:v 2 -bf 2 -f vob one.mpg; cat one.mpg one.mpg > {{out}}",
        Expected(frames=100, step=0.04, tolerance=0.05),
    ),
    Clip(
        "mpeg2b.avi",
        "AVI with MPEG-2 and B-frames",
        f"$FF {TEST} -vf fps=25 -c:v mpeg2video -bf 2 -q:v 2 {{out}}",
        Expected(step=0.04),
    ),
    Clip(
        "hevcb.avi",
        "AVI with HEVC and B-frames",
        f"$FF {TEST} -c:v libx265 -x265-params log-level=error:bframes=3 -pix_fmt yuv420p -vtag HEVC {{out}}",
        Expected(step=0.1),
    ),
    Clip(
        "hevcb.ts",
        "HEVC with B-frames in MPEG-TS",
        f"$FF {TEST} -c:v libx265 -x265-params log-level=error:bframes=4 -pix_fmt yuv420p {{out}}",
    ),
    Clip(
        "min61.avi",
        "3,660 frames in AVI",
        "$FF -i min61.mp4 -c copy -bsf:v h264_mp4toannexb {out}",
        Expected(refused="3600"),
    ),
    Clip(
        "min61.y4m",
        "3,660 frames of y4m",
        "$FF -f lavfi -i color=gray:size=16x16:rate=60:duration=61 -pix_fmt yuv420p {out}",
        Expected(refused="3600"),
    ),
    Clip(
        "delayed.mov",
        "pictures and sound that both begin after two seconds",
        "$FF -i base.mp4 -c copy first.mov; $FF -itsoffset 2 -i first.mov -c copy {out}",
    ),
    Clip("late.flv", "a stream's clock at three hours", "$FF -i base.mp4 -c copy -output_ts_offset 10800 {out}"),
    Clip(
        "late.mkv",
        "a recording cut out of Matroska with its times",
        "$FF -i base.mp4 -c copy -output_ts_offset 7200 {out}",
    ),
)
SHAPES = (
    Clip("tall.mp4", "two pixels wide", f"$FF {TEST} -vf scale=2:96 {X264} {{out}}", Expected(refused="16")),
    Clip(
        "sar.avi",
        "pixels of 16:15 told by MPEG-4 itself",
        f"$FF {TEST} -vf setsar=16/15 -c:v mpeg4 -q:v 1 {{out}}",
        Expected(step=0.1),
    ),
    Clip("sar.ts", "pixels of 12:11 told by H.264 itself", f"$FF {TEST} -vf setsar=12/11 {X264} {{out}}"),
)

PIXELS = tuple(
    Clip(name, about, f"$FF {TEST} {options} {{out}}", expected)
    for name, about, options, expected in (
        (
            "p14.y4m",
            "4:2:0 y4m of 14 bits",
            "-f yuv4mpegpipe -strict -1 -pix_fmt yuv420p14le",
            Expected(refused="8 bits"),
        ),
        (
            "p16.y4m",
            "4:4:4 y4m of 16 bits",
            "-f yuv4mpegpipe -strict -1 -pix_fmt yuv444p16le",
            Expected(refused="8 bits"),
        ),
        ("nv12.mkv", "raw frames of two planes", "-c:v rawvideo -pix_fmt nv12", Expected()),
        ("yuyv.mov", "raw frames of packed 4:2:2 in QuickTime", "-c:v rawvideo -pix_fmt yuyv422", Expected()),
        ("uyvy.avi", "raw frames of packed 4:2:2", "-c:v rawvideo -pix_fmt uyvy422", Expected(step=0.1)),
        ("monow.avi", "raw frames of one bit", "-c:v rawvideo -pix_fmt monow", Expected(step=0.1, decibels=12)),
        ("rgb24.mov", "raw RGB in QuickTime", "-c:v rawvideo -pix_fmt rgb24", Expected()),
        ("yuv440.webm", "VP9 4:4:0", "-c:v libvpx-vp9 -b:v 2M -pix_fmt yuv440p", Expected()),
        ("yuv410.mkv", "FFV1 4:1:0", "-c:v ffv1 -pix_fmt yuv410p", Expected(decibels=25)),
        ("gbrp16.mkv", "FFV1, RGB of 16 bits", "-c:v ffv1 -pix_fmt gbrp16le -strict -2", Expected()),
        ("ya8.mov", "PNG, grey with an opaque alpha channel", "-c:v png -pix_fmt ya8", Expected()),
        ("rgba64.mov", "PNG of 16 bits with an opaque alpha channel", "-c:v png -pix_fmt rgba64be", Expected()),
        ("r210.mov", "RGB of 10 bits", "-c:v r210", Expected()),
        ("v308.mov", "packed 4:4:4", "-c:v v308", Expected()),
        ("v410.mov", "packed 4:4:4 of 10 bits", "-c:v v410", Expected()),
        ("ayuv.avi", "packed 4:4:4 with an alpha channel", "-c:v ayuv", Expected(step=0.1)),
        ("xyz.mov", "JPEG 2000 of cinemas: XYZ of 12 bits", "-c:v jpeg2000 -pix_fmt xyz12le", Expected()),
        ("mpeg1.mpg", "MPEG-1", "-r 25 -c:v mpeg1video -q:v 2 -bf 2", Expected()),
        ("wmv1.asf", "WMV1", "-c:v wmv1 -q:v 2", Expected()),
        ("divx3.avi", "DivX 3", "-c:v msmpeg4 -q:v 2", Expected(step=0.1)),
        ("zmbv.avi", "screen recording of DOSBox", "-c:v zmbv -pix_fmt bgr0", Expected(step=0.1)),
        ("flashsv.flv", "screen video of Flash", "-c:v flashsv", Expected()),
        ("qtrle.mov", "QuickTime Animation of 24 bits", "-c:v qtrle -pix_fmt rgb24", Expected()),
        ("svq1.mov", "Sorenson Video", "-c:v svq1 -q:v 1", Expected()),
        ("dirac.mkv", "Dirac", "-c:v vc2 -pix_fmt yuv420p -b:v 20M", Expected()),
        ("ljpeg.avi", "lossless JPEG", "-c:v ljpeg -pix_fmt yuvj420p", Expected(step=0.1)),
        ("huffyuv.mkv", "HuffYUV", "-c:v huffyuv -pix_fmt yuv422p", Expected()),
        ("tiff.mov", "TIFF in QuickTime", "-c:v tiff -pix_fmt rgb24", Expected()),
        ("msvideo1.avi", "Microsoft Video 1", "-c:v msvideo1", Expected(step=0.1, decibels=20)),
        ("hevc-rgb.mkv", "HEVC that holds RGB", "-c:v libx265 -x265-params log-level=error -pix_fmt gbrp", Expected()),
        (
            "av1-444.mkv",
            "AV1 4:4:4 of 10 bits",
            "-vf scale=64:48 -c:v libaom-av1 -cpu-used 8 -crf 20 -pix_fmt yuv444p10le",
            Expected(),
        ),
    )
)
_CUT = "head -c $(($(stat -c %s whole.{0}) * 6 / 10)) whole.{0} > {{out}}"
TAILS = (
    Clip("cut.flv", "an FLV cut short", f"$FF -i base.mp4 -c copy whole.flv; {_CUT.format('flv')}"),
    Clip("cut.wmv", "an ASF cut short", f"$FF {TEST} -c:v wmv2 -q:v 2 whole.wmv; {_CUT.format('wmv')}"),
    Clip(
        "cut.mpg",
        "an MPEG program stream cut short",
        f"$FF {TEST} -r 25 -c:v mpeg2video -q:v 2 -f vob whole.mpg; {_CUT.format('mpg')}",
    ),
    Clip("cut.ogv", "an Ogg cut short", f"$FF {TEST} -c:v libtheora -q:v 10 whole.ogv; {_CUT.format('ogv')}"),
    Clip("cut.ivf", "an IVF cut short", f"$FF {TEST} -c:v libvpx -b:v 2M whole.ivf; {_CUT.format('ivf')}"),
    Clip(
        "cut.mov",
        "a MOV without its index",
        f"$FF -i base.mp4 -c copy whole.mov; {_CUT.format('mov')}",
        Expected(refused="index"),
    ),
    Clip("rubbish.ts", "an MPEG-TS with rubbish in front", "(tail -c 1000 base.wav; cat a.ts) > {out}"),
    Clip("rubbish.mkv", "a Matroska with bytes behind its end", "(cat mkvmerge.mkv; head -c 5000 base.wav) > {out}"),
    Clip(
        "refresh.ts",
        "H.264 with intra-refresh, cut from its midst",
        f"$FF {TEST.replace('duration=2', 'duration=6')} {X264} -g 20 -keyint_min 20 -x264-params intra-refresh=1:scenecut=0 -bf 0 refresh-whole.ts; "
        "tail -c +$(((($(stat -c %s refresh-whole.ts) / 188 * 4 / 10)) * 188 + 1)) refresh-whole.ts > {out}",
    ),
)

REMNANTS = (
    Clip(
        "segment.m4s",
        "a segment of DASH without its beginning",
        "$FF -i base.mp4 -c copy -f dash -seg_duration 1 -use_template 1 dash.mpd; cp chunk-stream0-00001.m4s {out}",
        Expected(refused="put that in front"),
    ),
    Clip(
        "live.mp4",
        "fragments of a live stream, at 500 s",
        "$FF -i base.mp4 -c copy -output_ts_offset 500 -movflags frag_keyframe+empty_moov+default_base_moof {out}",
    ),
    Clip(
        "scrambled.ts",
        "a scrambled broadcast",
        "python3 -c \"import random; b = bytearray(open('a.ts', 'rb').read()); "
        "packets = [at for at in range(0, len(b), 188) if (b[at + 1] & 31) << 8 | b[at + 2] > 255]; noise = random.Random(1).randbytes(188); "
        "[b.__setitem__(slice(at + 3, at + 188), bytes([b[at + 3] & 0xdf | 0x80]) + noise[:184]) for at in packets]; open('{out}', 'wb').write(b)\"",
        Expected(refused="scrambled"),
    ),
    Clip(
        "lost.ts",
        "a broadcast of which packets were lost",
        f"$FF {TEST} {X264} -g 5 all.ts; python3 -c \"b = open('all.ts', 'rb').read(); "
        "open('{out}', 'wb').write(b''.join(b[k * 188 : k * 188 + 188] for k in range(len(b) // 188) if k % 37 != 20))\"",
    ),
    Clip(
        "two.ts",
        "two programmes in one MPEG-TS",
        f"$FF -i base.mp4 {TEST} -map 0:v -map 0:a -map 1:v {X264} -c:a aac -program title=a:st=0:st=1 -program title=b:st=2 {{out}}",
        Expected(note="second film"),
    ),
    Clip("frame.y4m", "y4m with parameters of each frame", "sed 's/^FRAME$/FRAME Ip XNAME=a/' base.y4m > {out}"),
    Clip(
        "older.y4m",
        "y4m whose chroma the older word tells",
        "$FF -i base.y4m -pix_fmt yuv444p new.y4m; sed '1s/ C444//' new.y4m > {out}",
    ),
)

CLIPS = (*COVERS, *UNKNOWN_SOUNDS, *SOUNDS, *CLOCKS, *SHAPES, *PIXELS, *TAILS, *REMNANTS)
