"""Clips as phones, cameras, drones and browsers write them: several films, tracks of data, times of their own."""

from __future__ import annotations

from tests.system.inputs.films import SINE, TEST, X264
from tests.system.inputs.recipe import Clip, Expected

#: The track of texts of a film becomes one of data, as such programs write beside it; nothing of its content is read.
DATA_TRACK = (
    "python3 -c \"b = open('{0}', 'rb').read(); "
    "old, new = (b'hdlr' + bytes(4) + b'{3}' + kind for kind in (b'{4}', b'{5}')); "
    "b = b.replace(b'{1}', b'{2}').replace(old, new); "
    "open('{{out}}', 'wb').write(b)\""
)
TWO_FILMS = "-map 0:v -map 0:a -map 1:v -c copy"
LEFT_OUT = Expected(note="a second film, is left out")

PHONES = (
    Clip(
        "gopro.mp4",
        "an action camera's, with a track of what its sensors measured",
        "$FF -i base.mp4 -i word.srt -map 0 -map 1 -c copy -c:s mov_text texts.mp4; "
        + DATA_TRACK.format("texts.mp4", "tx3g", "gpmd", "\\0\\0\\0\\0", "sbtl", "meta"),
    ),
    Clip(
        "live.mov",
        "the film of a phone's live photo, with its timed metadata",
        "$FF -i base.mp4 -i word.srt -map 0 -map 1 -c copy -c:s mov_text -f mov texts.mov; "
        + DATA_TRACK.format("texts.mov", "text", "mebx", "mhlr", "mebx", "meta"),
    ),
    Clip(
        "cinematic.mov",
        "a phone's film with its depth as a track beside it",
        f"$FF -f lavfi -i testsrc2=size=64x48:rate=10:duration=2 {X264} -pix_fmt gray depth.mp4; "
        f"$FF -i base.mp4 -i depth.mp4 {TWO_FILMS} -disposition:v:1 0 both.mov; "
        "python3 -c \"b = bytearray(open('both.mov', 'rb').read()); i = b.rindex(b'vide'); b[i:i + 4] = b'auxv'; "
        "open('{out}', 'wb').write(b)\"",
        LEFT_OUT,
    ),
    Clip(
        "both-lenses.insv",
        "the two films of a camera with two lenses",
        f"$FF -i base.mp4 -i base.mp4 {TWO_FILMS} -disposition:v:1 default -f mp4 {{out}}",
        LEFT_OUT,
    ),
    Clip(
        "slow-motion.mov",
        "a phone's slow motion: 30 frames a second, then 240, then 30",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=240:duration=1,gblur=2 "
        f"-vf \"select='if(between(t,0.3,0.6),1,not(mod(n,8)))'\" -vsync vfr {X264} -bf 2 {{out}}",
    ),
    Clip(
        "hlg-turned.mov",
        "a phone's HLG of 10 bits, held upright",
        f"$FF {TEST} -vf format=yuv420p10le -c:v libx265 -x265-params "
        "log-level=error:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc -tag:v hvc1 "
        "-color_primaries bt2020 -color_trc arib-std-b67 -colorspace bt2020nc lying.mov; "
        "$FF -i lying.mov -c copy -metadata:s:v rotate=90 {out}",
        Expected(is_mapped=True),
    ),
    Clip(
        "canon.mov",
        "an older camera's: motion JPEG with PCM in QuickTime",
        f"$FF {TEST} {SINE} -c:v mjpeg -q:v 1 -pix_fmt yuvj422p -c:a pcm_s16le -shortest {{out}}",
    ),
    Clip(
        "avchd.mts",
        "a camcorder's: interlaced H.264 with AC-3 in packets of 192 bytes",
        f"$FF -f lavfi -i testsrc2=size=128x96:rate=50:duration=1,gblur=2 -f lavfi -i sine=duration=1 -vf interlace=scan=tff {X264} "
        "-flags +ildct+ilme -c:a ac3 -f mpegts -mpegts_m2ts_mode 1 {out}",
        Expected(is_interlaced=True),
    ),
    Clip(
        "metadata.ts",
        "a drone's, with a stream of data beside the film",
        "head -c 2000 base.wav > measured; $FF -i base.mp4 -f data -i measured -map 0:v -map 0:a -map 1 -c copy "
        "-f mpegts {out}",
    ),
)

WRITERS = (
    Clip(
        "browser.webm",
        "a browser's recording: no length, no index, uneven times",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=30:duration=2,gblur=2 -f lavfi -i sine=duration=2:sample_rate=48000 "
        "-vf \"select='not(mod(n*7,5))'\" -vsync vfr -c:v libvpx -b:v 2M -c:a libopus -live 1 -f webm - > {out}",
        accept="video/webm",
    ),
    Clip(
        "browser.mp4",
        "a browser's recording in MP4: fragments, VP9 and Opus",
        "$FF -f lavfi -i testsrc2=size=128x96:rate=30:duration=2,gblur=2 -f lavfi -i sine=duration=2:sample_rate=48000 "
        "-c:v libvpx-vp9 -b:v 2M -c:a libopus -movflags +frag_keyframe+empty_moov+default_base_moof {out}",
    ),
    Clip(
        "screen.mkv",
        "a recording of a screen: odd sides, 4:4:4",
        f"$FF -f lavfi -i testsrc2=size=214x122:rate=10:duration=2,gblur=2,scale=213:121 {X264} -pix_fmt yuv444p {{out}}",
        Expected(note="even"),
    ),
    Clip(
        "webcam.avi",
        "motion JPEG without its tables, as web cameras write it",
        "$FF -i base.mp4 -an -c:v mjpeg -q:v 1 "
        "-pix_fmt yuvj422p -huffman default tables.avi; python3 -c \"import re; b = open('tables.avi', 'rb').read(); "
        "b = re.sub(rb'\\xff\\xc4\\x01\\xa2.{416}', lambda m: b'\\xff\\xfe' + m[0][2:], b, flags=re.DOTALL); open('{out}', 'wb').write(b)\"",
    ),
    Clip("hinted.mp4", "with tracks of hints for streaming", "$FF -i base.mp4 -c copy -movflags rtphint {out}"),
    Clip(
        "long-box.mp4",
        "an MP4 whose content has a length of 64 bits",
        "python3 -c \"import struct; b = open('base.mp4', 'rb').read(); i = b.index(b'mdat') - 4; "
        "assert b[i - 4:i] == b'free'; n, = struct.unpack('>I', b[i:i + 4]); "
        "open('{out}', 'wb').write(b[:i - 8] + struct.pack('>I4sQ', 1, b'mdat', n + 8) + b[i + 8:])\"",
    ),
    Clip(
        "in-band.mp4",
        "HEVC that brings its parameters along (hev1)",
        f"$FF {TEST} -c:v libx265 -x265-params log-level=error -tag:v hev1 {{out}}",
    ),
    Clip("no-chroma.y4m", "y4m that does not tell its chroma", "sed '1s/ C[a-z0-9]*//' base.y4m > {out}"),
    Clip("paldv.y4m", "y4m whose chroma sits as in PAL's DV", "sed '1s/ C[a-z0-9]*/ C420paldv/' base.y4m > {out}"),
    Clip(
        "unknown-aspect.y4m",
        "y4m that does not know its pixels or fields",
        "sed '1s/ A[0-9:]*/ A0:0/; 1s/ Ip/ I?/' base.y4m > {out}",
    ),
)

CLIPS = (*PHONES, *WRITERS)
