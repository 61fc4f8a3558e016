"""Clips made with other tools than FFmpeg: GStreamer, encoders of their own, MKVToolNix, mjpegtools, HandBrake."""

from __future__ import annotations

from tests.system.inputs.recipe import Clip, Expected

GST = "gst-launch-1.0 -q -e videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=128,height=96,framerate=10/1"
GST_SOUND = "audiotestsrc num-buffers=86 samplesperbuffer=1024"
LEFT_OUT = Expected(note="left out", has_sound=False)

GSTREAMER = (
    Clip("gst.mp4", "GStreamer, x264enc in mp4mux", f"{GST} ! x264enc ! mp4mux ! filesink location={{out}}"),
    Clip(
        "gst-faststart.mp4",
        "GStreamer, the index first",
        f"{GST} ! x264enc ! mp4mux faststart=true ! filesink location={{out}}",
    ),
    Clip(
        "gst-fragmented.mp4",
        "GStreamer, fragments of half a second",
        f"{GST} ! x264enc key-int-max=5 ! mp4mux fragment-duration=500 ! filesink location={{out}}",
    ),
    Clip(
        "gst.mov",
        "GStreamer, qtmux with MP3",
        f"{GST} ! x264enc ! qtmux name=m ! filesink location={{out}} {GST_SOUND} ! lamemp3enc ! m.",
    ),
    Clip(
        "gst.mkv",
        "GStreamer, matroskamux with Vorbis",
        f"{GST} ! x264enc ! matroskamux name=m ! filesink location={{out}} {GST_SOUND} ! audioconvert ! vorbisenc ! m.",
    ),
    Clip(
        "gst-live.mkv",
        "GStreamer, Matroska without an index or a length",
        f"{GST} ! x264enc ! matroskamux streamable=true ! filesink location={{out}}",
    ),
    Clip("gst.webm", "GStreamer, VP8", f"{GST} ! vp8enc target-bitrate=2000000 ! webmmux ! filesink location={{out}}"),
    Clip(
        "gst-vp9.webm",
        "GStreamer, VP9 with Opus, into WebM",
        f"{GST} ! vp9enc target-bitrate=2000000 ! webmmux name=m ! filesink location={{out}} "
        f"{GST_SOUND} ! audioresample ! audio/x-raw,rate=48000 ! audioconvert ! opusenc ! m.",
        accept="video/webm",
    ),
    Clip(
        "gst.ts",
        "GStreamer, MPEG-TS with AAC",
        f"{GST} ! x264enc ! mpegtsmux name=m ! filesink location={{out}} {GST_SOUND} ! audioconvert ! voaacenc ! aacparse ! m.",
    ),
    Clip(
        "gst.avi", "GStreamer, motion JPEG in AVI", f"{GST} ! jpegenc quality=95 ! avimux ! filesink location={{out}}"
    ),
    Clip("gst.ogv", "GStreamer, Theora in Ogg", f"{GST} ! theoraenc quality=63 ! oggmux ! filesink location={{out}}"),
    Clip("gst.flv", "GStreamer, FLV", f"{GST} ! x264enc ! flvmux ! filesink location={{out}}"),
    Clip("gst.y4m", "GStreamer, y4menc", f"{GST},format=I420 ! y4menc ! filesink location={{out}}"),
    Clip(
        "gst-openh264.mp4",
        "GStreamer, OpenH264",
        f"{GST} ! openh264enc bitrate=2000000 ! h264parse ! mp4mux ! filesink location={{out}}",
    ),
    Clip(
        "gst-x265.mkv", "GStreamer, x265enc", f"{GST} ! x265enc ! h265parse ! matroskamux ! filesink location={{out}}"
    ),
    Clip(
        "gst-turned.mp4",
        "GStreamer, turned by a tag as a phone does",
        f"{GST} ! x264enc ! taginject tags=image-orientation=rotate-90 ! mp4mux ! filesink location={{out}}",
    ),
    Clip(
        "gst-mirrored.mp4",
        "GStreamer, mirrored by a tag as a front camera does",
        f"{GST} ! x264enc ! taginject tags=image-orientation=flip-rotate-0 ! mp4mux ! filesink location={{out}}",
    ),
    Clip(
        "gst-square.mp4",
        "GStreamer, pixels of 16:15",
        f"{GST},pixel-aspect-ratio=16/15 ! x264enc ! mp4mux ! filesink location={{out}}",
    ),
    Clip(
        "gst-mulaw.mkv",
        "GStreamer, µ-law",
        f"{GST} ! x264enc ! matroskamux name=m ! filesink location={{out}} {GST_SOUND} ! audioresample ! "
        "audio/x-raw,rate=8000,channels=1 ! mulawenc ! m.",
        LEFT_OUT,
    ),
)

ENCODERS = (
    Clip("aom.ivf", "aomenc, AV1 in IVF", "aomenc --cpu-used=8 --quiet --ivf -o {out} base.y4m"),
    Clip("aom.webm", "aomenc, AV1 in WebM", "aomenc --cpu-used=8 --quiet --webm -o {out} base.y4m"),
    Clip(
        "aom10.webm",
        "aomenc, AV1 of 10 bits",
        "aomenc --cpu-used=8 --quiet --bit-depth=10 --input-bit-depth=8 --webm -o {out} base.y4m",
    ),
    Clip(
        "aom-grain.webm",
        "aomenc, AV1 with film grain",
        "aomenc --cpu-used=8 --quiet --film-grain-test=1 --webm -o {out} base.y4m",
    ),
    Clip(
        "aom.obu",
        "aomenc, AV1 without a container",
        "aomenc --cpu-used=8 --quiet --obu -o {out} base.y4m",
        Expected(refused="AV1 without a container"),
    ),
    Clip(
        "aom-superres.webm",
        "aomenc, AV1 coded at half width",
        "aomenc --cpu-used=8 --quiet --superres-mode=1 --superres-denominator=16 --webm -o {out} base.y4m",
    ),
    Clip(
        "svt.mkv",
        "SVT-AV1, in Matroska by MKVToolNix",
        "SvtAv1EncApp -i base.y4m --preset 10 -b svt.ivf > /dev/null 2>&1; mkvmerge -q -o {out} svt.ivf",
    ),
    Clip(
        "vp8.webm",
        "vpxenc, VP8 with hidden frames",
        "vpxenc --codec=vp8 --auto-alt-ref=1 --lag-in-frames=16 --target-bitrate=2000 -q -o {out} base.y4m",
    ),
    Clip(
        "vp9-444.webm",
        "vpxenc, VP9 4:4:4",
        "$FF -i base.y4m -pix_fmt yuv444p y444.y4m; vpxenc --codec=vp9 --profile=1 --target-bitrate=2000 -q -o {out} y444.y4m",
    ),
    Clip(
        "vp9-12.webm",
        "vpxenc, VP9 of 12 bits",
        "vpxenc --codec=vp9 --profile=2 --bit-depth=12 --target-bitrate=2000 -q -o {out} base.y4m",
    ),
    Clip("x264-plain.mkv", "x264's own Matroska", "cp x264.mkv {out}"),
    Clip(
        "x264.264",
        "H.264 without a container",
        "x264 --quiet -o {out} base.y4m",
        Expected(refused="without a container"),
    ),
    Clip(
        "x264-vfr.mkv",
        "x264 with a file of times",
        "printf '# timecode format v2\\n' > times.txt; for k in $(seq 0 19); do echo $((k * k * 10)); done >> times.txt; x264 --quiet --tcfile-in times.txt -o {out} base.y4m",
    ),
    Clip("x264-crop.mkv", "x264 with a crop rectangle", "x264 --quiet --crop-rect 8,8,8,8 -o {out} base.y4m"),
    Clip("x264-tff.mkv", "x264, interlaced", "x264 --quiet --tff -o {out} base.y4m", Expected(is_interlaced=True)),
    Clip(
        "x265.265",
        "HEVC without a container",
        "x265 --log-level none --input base.y4m -o {out} 2> /dev/null",
        Expected(refused="without a container"),
    ),
    Clip(
        "x265-hdr.mkv",
        "x265 with HDR10's description, in Matroska by MKVToolNix",
        "x265 --log-level none --input base.y4m --output-depth 10 --colorprim bt2020 --transfer smpte2084 --colormatrix bt2020nc "
        "--master-display 'G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)' --max-cll 1000,400 "
        "-o hdr.265 2> /dev/null; mkvmerge -q --default-duration 0:10fps -o {out} hdr.265",
        Expected(is_mapped=True),
    ),
    Clip(
        "mjpegtools.mpg",
        "mpeg2enc and mplex",
        "$FF -i base.y4m -r 25 -vf scale=352:288,setsar=1 -f yuv4mpegpipe m25.y4m; mpeg2enc -v 0 -f 3 -b 4000 -q 3 -o m.m2v < m25.y4m 2> /dev/null; mplex -v 0 -f 3 -o {out} m.m2v 2> /dev/null",
    ),
    Clip(
        "handbrake.mp4",
        "HandBrake",
        "HandBrakeCLI -i base.mp4 -o {out} -e x264 -q 18 --crop 0:0:0:0 --width 128 --height 96 > /dev/null 2>&1",
    ),
    Clip(
        "handbrake.mkv",
        "HandBrake, x265 of 10 bits",
        "HandBrakeCLI -i base.mp4 -o {out} -e x265_10bit -q 14 --crop 0:0:0:0 --width 128 --height 96 > /dev/null 2>&1",
    ),
)

MATROSKA = (
    Clip("mkv-plain.mkv", "MKVToolNix", "cp mkvmerge.mkv {out}"),
    Clip(
        "mkv-aspect.mkv",
        "a display size of 16:9 put in by mkvpropedit",
        "cp mkvmerge.mkv {out}; mkvpropedit -q {out} --edit track:v1 --set display-width=171 --set display-height=96",
    ),
    Clip(
        "mkv-crop.mkv",
        "a crop put in by mkvpropedit: the shape of its pixels is kept, the crop is not followed",
        "cp mkvmerge.mkv {out}; mkvpropedit -q {out} --edit track:v1 --set pixel-crop-left=8 --set pixel-crop-right=8",
        Expected(aspect=128 / 96 * 8 / 7),
    ),
    Clip(
        "mkv-colour.mkv",
        "BT.2020 SDR put in by mkvpropedit",
        "mkvmerge -q --color-matrix-coefficients 0:9 --color-primaries 0:9 --color-transfer-characteristics 0:14 -o {out} x264.mkv",
    ),
    Clip(
        "mkv-appended.mkv",
        "two films appended by mkvmerge",
        "mkvmerge -q -o {out} base.mp4 + base.mp4",
        Expected(tolerance=0.05),
    ),
    Clip("mkv-headerstrip.mkv", "tracks compressed by zlib", "mkvmerge -q --compression -1:zlib -o {out} base.mp4"),
    Clip(
        "mkv-attached.mkv",
        "a font and a cover attached",
        "mkvmerge -q -o {out} --attach-file cover.png --attach-file word.srt base.mp4",
    ),
    Clip(
        "mkv-chapters.mkv",
        "with chapters and tags",
        "printf 'CHAPTER01=00:00:00.000\\nCHAPTER01NAME=one\\n' > chapters.txt; mkvmerge -q --chapters chapters.txt --title title -o {out} base.mp4",
    ),
    Clip("mkv-late.mkv", "sound half a second late by mkvmerge", "mkvmerge -q --sync 1:500 -o {out} base.mp4"),
    Clip(
        "mkv-stereo.mkv",
        "stereo 3D, side by side",
        "mkvmerge -q --stereo-mode 0:side_by_side_left_first -o {out} x264.mkv",
    ),
    Clip(
        "mkv-turned.mkv",
        "turned by the projection of mkvpropedit",
        "cp mkvmerge.mkv {out}; mkvpropedit -q {out} --edit track:v1 --set projection-type=0 --set projection-pose-roll=90",
    ),
)

CLIPS = (*GSTREAMER, *ENCODERS, *MATROSKA)
