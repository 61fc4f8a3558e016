"""Sound goes through, or is left out by name; never does it stop a clip."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed")

from service.serving.video.clip import SoundMode, VideoError  # noqa: E402
from service.serving.video.files import open_sink, open_source  # noqa: E402
from tests.tools import require  # noqa: E402
from tests.unit.serving.video.films import LIMITS, Film, copy, probe, stream, write  # noqa: E402

Way = Callable[..., tuple[str, ...]]
WAYS: list[Any] = [pytest.param(copy, id="file"), pytest.param(stream, id="stream")]


def _heard(path: Path) -> float:
    """Seconds of sound that can be decoded."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return float(sum(frame.samples / frame.sample_rate for frame in frames))


@pytest.mark.parametrize(
    ("way", "target"),
    [(way, target) for way in (copy, stream) for target in (".mp4", ".mov", ".mkv")] + [(copy, ".avi")],
)
@pytest.mark.parametrize(("codec", "rate"), [("aac", 44100), ("mp2", 48000), ("ac3", 48000)])
def test_a_broadcasts_sound_is_copied(tmp_path: Path, way: Way, target: str, codec: str, rate: int) -> None:
    film = write(tmp_path / "in.ts", Film(sounds=((codec, rate, ""),)))
    assert way(film, tmp_path / f"out{target}") == ()
    # In MP4, layers 2 and 3 of MPEG audio have one name.
    assert [sound for sound, _ in probe(tmp_path / f"out{target}").sounds] in ([codec], [codec.replace("mp2", "mp3")])
    assert _heard(tmp_path / f"out{target}") == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("codec", "rate", "target"),
    [
        ("pcm_mulaw", 8000, ".mp4"),
        ("adpcm_ms", 8000, ".mp4"),
        ("ac3", 48000, ".webm"),
        ("aac", 44100, ".webm"),
        ("pcm_u8", 8000, ".mp4"),
    ],
)
def test_what_a_container_cannot_hold_is_left_out_by_name_or_encoded(
    tmp_path: Path, way: Way, codec: str, rate: int, target: str
) -> None:
    film = write(tmp_path / "in.avi", Film(sounds=((codec, rate, ""),)))
    [note] = way(film, tmp_path / f"out{target}")
    assert note == f"track 2, {codec}, is left out, as {target} cannot hold it: sound=transcode encodes it anew"
    assert probe(tmp_path / f"out{target}").sounds == []
    assert len(probe(tmp_path / f"out{target}").times) == 8
    [note] = way(film, tmp_path / f"heard{target}", SoundMode.TRANSCODE)
    assert note == f"track 2, {codec}, is encoded anew"
    wanted = "opus" if target == ".webm" else "aac"
    assert [sound for sound, _ in probe(tmp_path / f"heard{target}").sounds] == [wanted]
    assert _heard(tmp_path / f"heard{target}") == pytest.approx(0.8, abs=0.25)


def test_y4m_says_that_it_holds_no_sound(tmp_path: Path) -> None:
    film = write(tmp_path / "in.mp4", Film(sounds=(("aac", 44100, ""),)))
    assert copy(film, tmp_path / "out.y4m") == ("the sound is left out, as y4m holds none",)


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".mov"])
def test_languages_and_the_default_track_are_kept(tmp_path: Path, target: str) -> None:
    film = write(tmp_path / "in.mkv", Film(sounds=(("aac", 44100, "eng"), ("aac", 44100, "fra"))))
    copy(film, tmp_path / f"out{target}")
    assert [language for _, language in probe(tmp_path / f"out{target}").sounds] == ["eng", "fra"]
    with av.open(str(film)) as before, av.open(str(tmp_path / f"out{target}")) as after:
        defaults = [
            [bool(sound.disposition & av.stream.Disposition.default) for sound in container.streams.audio]
            for container in (before, after)
        ]
    assert defaults[1] == ([True, False] if target != ".mkv" else defaults[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
def test_a_track_that_nobody_reads_is_left_out(tmp_path: Path, way: Way, target: str) -> None:
    film = write(tmp_path / "in.mp4", Film(sounds=(("aac", 44100, "eng"), ("aac", 44100, "fra"))))
    data = film.read_bytes()
    place = data.rindex(b"mp4a")
    film.write_bytes(data[:place] + b"apac" + data[place + 4 :].replace(b"esds", b"dapa", 1))
    assert way(film, tmp_path / f"out{target}") == ("track 3, a sound that cannot be read, is left out",)
    assert probe(tmp_path / f"out{target}").sounds == [("aac", "eng")]


def _with_cover(path: Path, *, film: bool) -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=10) if film else None
        if video:
            video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1)
        container.mux(cover.encode(picture))
        for k, frame in enumerate(Film().frames if video else []):
            shown = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
            shown.pts, shown.time_base = k, Fraction(1, 10)
            container.mux(video.encode(shown))  # type: ignore[union-attr]
        for k in range(30):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 44100, 1024 * k
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
        if video:
            container.mux(video.encode(None))
    return path


def test_a_cover_before_the_film_is_not_the_film(tmp_path: Path) -> None:
    assert copy(_with_cover(tmp_path / "in.mp4", film=True), tmp_path / "out.mp4") == ()
    assert probe(tmp_path / "out.mp4").size == (48, 32)
    assert len(probe(tmp_path / "out.mp4").times) == 8


def test_a_song_with_a_cover_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cover picture but no film"):
        open_source(str(_with_cover(tmp_path / "in.m4a", film=False)), limits=LIMITS)


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".avi"])
def test_sound_that_an_edit_list_hides_stays_hidden(tmp_path: Path, target: str) -> None:
    ffmpeg = require("ffmpeg")
    long = write(tmp_path / "long.mp4", Film(sounds=(("aac", 44100, ""),), options=(("g", "50"),)))
    cut = [ffmpeg, "-v", "error", "-ss", "0.55", "-i", str(long), "-c", "copy", str(tmp_path / "in.mp4")]
    subprocess.run(cut, check=True, timeout=60)
    source = open_source(str(tmp_path / "in.mp4"), limits=LIMITS)
    source.close()
    assert (source.info.frames or 0) <= 4  # the header counts 8
    copy(tmp_path / "in.mp4", tmp_path / f"out{target}")
    found = probe(tmp_path / f"out{target}")
    assert found.times[0] < 0.06
    assert found.duration == pytest.approx(0.25, abs=0.07)
    assert _heard(tmp_path / f"out{target}") == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("suffix", [".y4m", ".ts", ".mkv"])
def test_a_pipe_with_a_name_is_read_like_a_file(tmp_path: Path, suffix: str) -> None:
    film = write(tmp_path / "in.mkv", Film(sounds=(("aac", 44100, ""),)))
    if suffix != ".mkv":
        copy(film, tmp_path / "mid.y4m")
        film = tmp_path / "mid.y4m" if suffix == ".y4m" else write(tmp_path / "mid.ts", Film())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(film.read_bytes(),))
    writer.start()
    copy(pipe, tmp_path / "out.mp4")
    writer.join(60)
    assert len(probe(tmp_path / "out.mp4").times) == 8


def test_an_index_that_a_pipe_cannot_go_back_from_is_called_so_not_damaged(tmp_path: Path) -> None:
    film, pipe = write(tmp_path / "in.mp4", Film()).read_bytes(), tmp_path / "pipe"
    index = film.rindex(b"moov") - 4
    # Farther from its film than what a reader keeps of what it has read.
    far = film[:index] + (2**20).to_bytes(4, "big") + b"free" + bytes(2**20 - 8) + film[index:]
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(far,))
    writer.start()
    with pytest.raises(VideoError, match="the film's index lies behind it"):
        copy(pipe, tmp_path / "out.mp4")
    writer.join(60)


def _joined(folder: Path, codec: str) -> Path:
    """Two broadcasts of 0.8 s each, the second with another rate: a tone of the same number of samples is higher."""
    films = [write(folder / f"{rate}.ts", Film(sounds=((codec, rate, ""),))) for rate in (44100, 48000)]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(film.read_bytes() for film in films))
    return path


def _pitch(samples: np.ndarray, rate: int) -> float:
    """Hertz of the loudest tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("codec", ["mp2", "aac", "ac3"])
def test_sound_that_changes_its_rate_is_encoded_at_one(tmp_path: Path, codec: str) -> None:
    """The encoder took no other rate, and the clip broke off where a broadcast's next programme began."""
    copy(_joined(tmp_path, codec), tmp_path / "out.webm", SoundMode.TRANSCODE)
    with av.open(str(tmp_path / "out.webm")) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert len(heard) / rate == pytest.approx(1.6, abs=0.12)
    for start, source_rate in ((0.3, 44100), (1.2, 48000)):
        at = round(start * rate)
        assert _pitch(heard[at : at + rate // 4], rate) == pytest.approx(0.2 * source_rate / (2 * np.pi), abs=45)


def test_aac_that_changes_its_rate_is_not_copied_at_another(tmp_path: Path) -> None:
    """What followed was played by the rate of what came first: lower, and later and later."""
    reader: Any = open_source(str(_joined(tmp_path, "aac")), limits=LIMITS)
    sink = open_sink(str(tmp_path / "out.mp4"), reader, reader.info.width, reader.info.height)

    def write_all() -> None:
        for item in reader:
            sink.write(item)

    try:
        with pytest.raises(VideoError, match=r"rate of its sound changes 0\.[89]\d s after"):
            write_all()
    finally:
        sink.close()
        reader.close()


def _clicks(path: Path) -> list[float]:
    """Seconds at which each click of a sound begins."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    heard = np.zeros(2 * rate)
    for frame in frames:
        start = max(0, round(frame.time * rate))
        samples = frame.to_ndarray()[0]
        heard[start : start + len(samples)] = samples
    loud = np.flatnonzero(np.abs(heard) > np.abs(heard).max() / 3)
    return [float(at) / rate for at, before in zip(loud, [-rate, *loud[:-1]], strict=True) if at - before > rate / 10]


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
def test_packets_of_two_lengths_are_all_copied(tmp_path: Path, target: str) -> None:
    """Vorbis has short ones for what is sudden; the long one after them was taken for what was heard before."""
    wave = np.zeros(48000, np.int16)
    for start in range(6000, 48000, 12000):
        wave[start : start + 1200] = 20000 * np.sin(np.arange(1200) * 0.3)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video: Any = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        track: Any = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        for number, frame in enumerate(Film().frames):
            picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(video.encode(picture))
        start = 0
        while start < len(wave):
            length = 240 if start % 12000 < 2400 else 2400
            packet = av.Packet(wave[start : start + length].tobytes())
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = length, Fraction(1, 48000), track
            container.mux(packet)
            start += length
        container.mux(video.encode(None))
    stream(tmp_path / "in.mkv", tmp_path / f"out{target}")
    assert _clicks(tmp_path / "in.mkv") == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.001)
    assert _clicks(tmp_path / f"out{target}") == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.004)
    assert _heard(tmp_path / f"out{target}") == pytest.approx(1.0, abs=0.001)
