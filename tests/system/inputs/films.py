"""Clips made with FFmpeg: those that once failed, and more of their kinds."""

from __future__ import annotations

from tests.system.inputs.recipe import Clip, Expected

X264 = "-c:v libx264 -pix_fmt yuv420p"
TEST = "-f lavfi -i testsrc2=size=128x96:rate=10:duration=2,gblur=2"
SINE = "-f lavfi -i sine=frequency=440:duration=2:sample_rate=44100"
ANAMORPHIC = "-f lavfi -i testsrc2=size=120x96:rate=10:duration=1,gblur=2 -vf setsar=64/45"
HDR10 = (
    "-f lavfi -i testsrc2=size=128x96:rate=10:duration=1,gblur=2 -vf format=yuv420p10le -c:v libx265 -tag:v hvc1 -x265-params "
    "log-level=error:colorprim=bt2020:transfer={curve}:colormatrix=bt2020nc -color_primaries bt2020 "
    "-color_trc {curve} -colorspace bt2020nc"
)

#: Nothing is changed.
KEPT = Expected()

SHAPES = (
    Clip("anam.mp4", "pixels of 64:45", f"$FF {ANAMORPHIC} {X264} anam.mp4"),
    Clip("anam.mkv", "pixels of 64:45", f"$FF {ANAMORPHIC} {X264} anam.mkv"),
    Clip("anam.y4m", "pixels of 64:45", f"$FF {ANAMORPHIC} -f yuv4mpegpipe -pix_fmt yuv420p anam.y4m"),
    Clip(
        "anam.webm",
        "pixels of 64:45, into WebM",
        f"$FF {ANAMORPHIC} -c:v libvpx -b:v 2M anam.webm",
        Expected(note="square", is_square=True),
        "video/webm",
    ),
    *(
        Clip(
            f"turned{angle}.mp4", f"turned by {angle}", f"$FF -i base.mp4 -c copy -metadata:s:v rotate={angle} {{out}}"
        )
        for angle in (90, 180, 270)
    ),
    Clip(
        "odd.mp4",
        "odd sides",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=10:duration=1,gblur=2 -vf scale=127:95 -pix_fmt yuv444p {out}",
        Expected(note="even"),
    ),
    Clip(
        "inter.mp4",
        "interlaced H.264",
        f"$FF -f lavfi -i testsrc2=size=128x96:rate=50:duration=1,gblur=2 -vf interlace=scan=tff -flags +ildct+ilme {X264} {{out}}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "inter.y4m",
        "interlaced y4m",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=50:duration=1,gblur=2 -vf interlace=scan=tff,setfield=tff -f yuv4mpegpipe {out}",
        Expected(refused="interlaced"),
    ),
    Clip(
        "alpha.webm",
        "half of it transparent",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=10:duration=1,gblur=2 -vf \"format=yuva420p,geq=lum='p(X,Y)':a='if(lt(X,64),0,255)'\""
        " -c:v libvpx-vp9 -b:v 500k {out}",
        Expected(refused="transparent"),
    ),
    Clip(
        "alpha.mov",
        "QuickTime Animation, half transparent",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=10:duration=1,gblur=2 -vf \"format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(lt(X,64),0,255)',format=argb\""
        " -c:v qtrle {out}",
        Expected(refused="transparent"),
    ),
)

COLOURS = (
    Clip(
        "hdr.mp4",
        "HDR10: PQ, BT.2020, 10 bits",
        f"$FF {HDR10.format(curve='smpte2084')} {{out}}",
        Expected(is_mapped=True),
    ),
    Clip(
        "hlg.mov",
        "HLG, BT.2020, 10 bits",
        f"$FF {HDR10.format(curve='arib-std-b67')} {{out}}",
        Expected(is_mapped=True),
    ),
    Clip(
        "bt709.mp4",
        "BT.709 in a small picture",
        f"$FF {TEST} -vf scale=out_color_matrix=bt709 {X264} -colorspace bt709 -color_primaries bt709 -color_trc bt709 {{out}}",
    ),
    Clip(
        "pal.mp4",
        "BT.470BG",
        f"$FF {TEST} {X264} -colorspace bt470bg -color_primaries bt470bg -color_trc gamma28 {{out}}",
    ),
    Clip(
        "full.mp4",
        "full range",
        f"$FF {TEST} -vf scale=out_range=full -c:v libx264 -pix_fmt yuvj420p -color_range pc {{out}}",
    ),
    Clip(
        "p3.mov",
        "Display P3, as phones film",
        f"$FF {TEST} -vf scale=out_color_matrix=bt709 {X264} -colorspace bt709 "
        "-color_primaries smpte432 -color_trc bt709 {out}",
    ),
    Clip(
        "hd.mkv",
        "720 lines without tags",
        f"$FF -f lavfi -i testsrc2=size=1280x720:rate=10:duration=0.5,gblur=2 {X264} {{out}}",
    ),
    Clip("deep.mkv", "H.264 4:2:2 of 10 bits", f"$FF {TEST} -c:v libx264 -pix_fmt yuv422p10le {{out}}"),
    Clip("grey.mkv", "grey", f"$FF {TEST} -c:v ffv1 -pix_fmt gray {{out}}"),
    Clip(
        "gray10.y4m",
        "grey y4m of 10 bits",
        f"$FF {TEST} -f yuv4mpegpipe -strict -1 -pix_fmt gray10le {{out}}",
        Expected(refused="8 bits"),
    ),
    Clip(
        "p9.y4m",
        "4:4:4 y4m of 9 bits",
        f"$FF {TEST} -f yuv4mpegpipe -strict -1 -pix_fmt yuv444p9le {{out}}",
        Expected(refused="8 bits"),
    ),
    Clip("y411.y4m", "4:1:1 y4m", f"$FF {TEST} -f yuv4mpegpipe -pix_fmt yuv411p {{out}}", Expected(refused="411")),
)

CLOCKS = (
    Clip(
        "vfr.mp4",
        "frames missing in the middle, B-frames",
        f"$FF {TEST} -vf \"select='not(between(n,5,11))'\" -vsync vfr {X264} -bf 2 {{out}}",
    ),
    Clip(
        "vfr.webm",
        "frames missing in the middle",
        f"$FF {TEST} -vf \"select='not(between(n,5,11))'\" -vsync vfr -c:v libvpx -b:v 2M {{out}}",
    ),
    Clip(
        "still-end.mp4",
        "a last frame of three seconds",
        f"$FF -f lavfi -i testsrc2=size=128x96:rate=10:duration=0.5,gblur=2 {X264} -bf 0 -video_track_timescale 1000 still-short.mp4; "
        "$FF -i still-short.mp4 -vf tpad=stop_mode=clone:stop_duration=2.9,mpdecimate=max=100 -vsync vfr -c:v libx264 -bf 0 -pix_fmt yuv420p {out}",
    ),
    Clip("h264b.avi", "AVI with H.264 and B-frames", f"$FF {TEST} {X264} -bf 2 {{out}}", Expected(step=0.1)),
    Clip(
        "twice.ts",
        "two recordings joined, with AAC",
        "cat a.ts a.ts > {out}",
        Expected(frames=40, step=0.1, tolerance=0.06),
    ),
    Clip(
        "twice-na.ts",
        "two recordings joined, silent",
        "$FF -i a.ts -an -c copy na.ts; cat na.ts na.ts > {out}",
        Expected(frames=40, step=0.1, tolerance=0.011),
    ),
    Clip("late.ts", "a broadcast's clock at ten hours", f"$FF {TEST} {X264} -output_ts_offset 36000 {{out}}"),
    Clip("wrap.ts", "a clock that wraps", f"$FF {TEST} {X264} -output_ts_offset 95442.7 {{out}}", Expected(step=0.1)),
    Clip(
        "ntsc.mp4",
        "24000/1001 frames a second",
        f"$FF -f lavfi -i testsrc2=size=128x96:rate=24000/1001:duration=1,gblur=2 {X264} {{out}}",
    ),
    Clip(
        "later.mkv",
        "sound that begins later",
        "$FF -i base.mp4 -itsoffset 0.5 -i base.mp4 -map 0:v -map 1:a -c copy {out}",
    ),
    Clip(
        "min61.mp4",
        "3,660 frames, told by the header",
        "$FF -f lavfi -i color=gray:size=64x48:rate=60:duration=61 -c:v libx264 -preset ultrafast {out}",
        Expected(refused="3600"),
    ),
)


def _sound(name: str, about: str, codec: str, expected: Expected = KEPT, rate: int = 44100) -> Clip:
    sine = SINE.replace("44100", str(rate))
    return Clip(name, about, f"$FF {TEST} {sine} {X264} {codec} -shortest {{out}}", expected)


SILENT = Expected(note="left out", has_sound=False)
SOUNDS = (
    Clip("aac.ts", "AAC in MPEG-TS", "cp a.ts {out}"),
    _sound("mp2.ts", "MP2 in MPEG-TS; ffprobe calls it MP3 in any MP4", "-c:a mp2", Expected(sounds=("mp3",))),
    _sound("ac3.mkv", "AC-3", "-c:a ac3"),
    _sound("flac.mkv", "FLAC", "-c:a flac"),
    _sound("pcm.mov", "PCM", "-c:a pcm_s16le"),
    _sound("adpcm.mkv", "ADPCM, which MP4 cannot hold", "-c:a adpcm_ima_wav", SILENT, 8000),
    _sound("mulaw.mkv", "µ-law of an IP camera", "-c:a pcm_mulaw", SILENT, 8000),
    Clip(
        "mjpeg.avi",
        "motion JPEG with PCM of 8 bits",
        f"$FF {TEST} {SINE} -c:v mjpeg -q:v 2 -c:a pcm_u8 -shortest {{out}}",
        SILENT,
    ),
    Clip("opus.webm", "VP8 and Opus", f"$FF {TEST} {SINE} -c:v libvpx -b:v 2M -c:a libopus -shortest {{out}}"),
    Clip(
        "vorbis.webm",
        "VP8 and Vorbis, into WebM",
        f"$FF {TEST} {SINE} -c:v libvpx -b:v 2M -c:a libvorbis -shortest {{out}}",
        accept="video/webm",
    ),
    Clip("aac-webm.mp4", "AAC into WebM", "cp base.mp4 {out}", SILENT, "video/webm"),
    Clip("lang2.mp4", "two sounds with languages", "cp lang.mp4 {out}", Expected(languages=("eng", "fra"))),
    Clip(
        "apac.mp4",
        "a second sound of a kind that nothing decodes",
        "python3 -c \"b = open('lang.mp4', 'rb').read(); i = b.rindex(b'mp4a'); "
        "open('{out}', 'wb').write(b[:i] + b'apac' + b[i + 4:].replace(b'esds', b'dapa', 1))\"",
        Expected(note="left out", sounds=("aac",)),
    ),
    Clip(
        "artwork-first.mp4",
        "a cover before the film",
        "$FF -i cover.png -i base.mp4 -map 0 -map 1 -c copy -disposition:v:0 attached_pic {out}",
    ),
    Clip(
        "cover.m4a",
        "a song with a cover",
        "$FF -i base.wav -i cover.png -map 0 -map 1 -c:a aac -c:v copy -disposition:v attached_pic {out}",
        Expected(refused="only sound"),
    ),
    Clip("audio.m4a", "only sound", "$FF -i base.wav -c:a aac {out}", Expected(refused="only sound")),
    Clip(
        "subtitles.mkv",
        "with subtitles",
        "$FF -i base.mp4 -i word.srt -map 0 -map 1 -c copy -c:s srt {out}",
        Expected(note="left out"),
    ),
)

CODECS = tuple(
    Clip(name, about, f"$FF {TEST} {options} {{out}}", expected)
    for name, about, options, expected in (
        ("hevc.mp4", "HEVC", "-c:v libx265 -x265-params log-level=error -tag:v hvc1 -pix_fmt yuv420p", Expected()),
        ("vp9.webm", "VP9", "-c:v libvpx-vp9 -b:v 2M", Expected()),
        ("prores.mov", "ProRes 422 HQ", "-c:v prores_ks -profile:v 3", Expected()),
        (
            "dv.avi",
            "DV",
            "-vf scale=720:576,setsar=64/45 -r 25 -c:v dvvideo -pix_fmt yuv420p",
            Expected(is_interlaced=True),
        ),
        ("mpeg2.mpg", "MPEG-2 in a program stream", "-r 25 -c:v mpeg2video -q:v 2 -bf 2 -f vob", Expected()),
        ("xvid.avi", "Xvid in AVI", "-c:v mpeg4 -q:v 2 -vtag XVID", Expected(step=0.1)),
        ("theora.ogv", "Theora in Ogg", "-c:v libtheora -q:v 10", Expected()),
        ("wmv2.wmv", "WMV2 in ASF", "-c:v wmv2 -q:v 2", Expected()),
        ("flv1.flv", "Sorenson in FLV", "-c:v flv -q:v 2", Expected()),
        ("h263.3gp", "H.263 in 3GP", "-s 128x96 -c:v h263 -q:v 2", Expected()),
        ("png.mov", "PNG in QuickTime", "-c:v png -pix_fmt rgb24", Expected()),
        ("utvideo.avi", "Ut Video, lossless", "-c:v utvideo -pix_fmt yuv420p", Expected(step=0.1)),
        ("fragmented.mp4", "fragmented MP4", f"{X264} -movflags frag_keyframe+empty_moov", Expected()),
        ("broadcast.mxf", "MPEG-2 in MXF", "-r 25 -c:v mpeg2video -q:v 2", Expected(refused="MXF")),
        ("lossless.nut", "FFV1 in NUT", "-c:v ffv1", Expected(refused="NUT")),
        ("old.rm", "RealMedia", "-c:v rv20", Expected(refused="RealMedia")),
        ("bare.m2v", "MPEG-2 without a container", "-r 25 -c:v mpeg2video", Expected(refused="without a container")),
        ("playlist.m3u8", "an HLS playlist", "-c:v libx264 -f hls", Expected(refused="playlist")),
        ("vfw.mkv", "MPEG-4 in Matroska", "-c:v mpeg4 -q:v 2", Expected()),
    )
)

CLIPS = (*SHAPES, *COLOURS, *CLOCKS, *SOUNDS, *CODECS)
