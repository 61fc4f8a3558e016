"""What ffprobe and FFmpeg say of a clip: its film's shape, colours and times, its sounds, its pixels."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Unknown, in ffprobe's words.
UNKNOWN = (None, "unknown", "unspecified", "und", "reserved", "gbr")
#: Two numbers for one matrix, BT.601's: VP8's decoder says one whatever the container says.
_SAME = {"smpte170m": "bt470bg"}
_COLOURS = ("color_primaries", "color_transfer", "color_space")


@dataclass(frozen=True, slots=True)
class Film:
    """A clip as ffprobe describes it. Seconds; `aspect` is that of the shown picture; `times` begin at 0."""

    index: int
    width: int
    height: int
    aspect: float
    colours: dict[str, str]
    times: tuple[float, ...]
    duration: float
    first: float
    sounds: tuple[str, ...]
    languages: tuple[str, ...]
    sound_first: float | None


def _json(path: Path, *options: str) -> Any:
    command = ["ffprobe", "-v", "error", "-of", "json", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout)


def _turned(stream: dict[str, Any]) -> bool:
    """Tell whether the picture is shown lying on its side."""
    angles = [data["rotation"] for data in stream.get("side_data_list", ()) if "rotation" in data]
    return bool(angles) and abs(int(angles[0])) % 180 == 90


def _aspect(stream: dict[str, Any]) -> float:
    numerator, _, denominator = str(stream.get("sample_aspect_ratio", "1:1")).partition(":")
    square = int(numerator or 0) / int(denominator or 1) or 1.0
    return float(stream["width"] * square / stream["height"])


def _colours(stream: dict[str, Any]) -> dict[str, str]:
    colours = {key: stream[key] for key in _COLOURS if stream.get(key) not in UNKNOWN}
    if "color_space" in colours:
        colours["color_space"] = _SAME.get(colours["color_space"], colours["color_space"])
    return colours


def film(path: Path) -> Film | None:
    """Describe the film in `path`, of several the one with the most frames; None: there is none that is no cover."""
    streams = _json(path, "-show_streams", "-count_packets")["streams"]
    videos = [stream for stream in streams if stream["codec_type"] == "video"]
    videos = [stream for stream in videos if not stream["disposition"]["attached_pic"]]
    if not videos:
        return None
    video = max(videos, key=lambda stream: int(stream.get("nb_read_packets", 0)))
    entries = "frame=pts_time,best_effort_timestamp_time,pkt_duration_time,duration_time"
    frames = _json(path, "-select_streams", str(video["index"]), "-show_entries", entries)["frames"]
    times = [float(frame.get("pts_time") or frame.get("best_effort_timestamp_time") or "nan") for frame in frames]
    # Where no duration is written, the last frame is shown for as long as the others.
    usual = (times[-1] - times[0]) / max(1, len(times) - 1)
    last = float(frames[-1].get("duration_time") or frames[-1].get("pkt_duration_time") or usual)
    sounds = [stream for stream in streams if stream["codec_type"] == "audio"]
    is_turned, aspect = _turned(video), _aspect(video)
    width, height = video["width"], video["height"]
    return Film(
        index=video["index"],
        width=height if is_turned else width,
        height=width if is_turned else height,
        aspect=1 / aspect if is_turned else aspect,
        colours=_colours(video),
        times=tuple(time - times[0] for time in times),
        duration=times[-1] - times[0] + last,
        first=times[0],
        sounds=tuple(str(sound.get("codec_name", "unknown")) for sound in sounds),
        languages=tuple(sound.get("tags", {}).get("language", "und") for sound in sounds),
        sound_first=float(sounds[0]["start_time"]) if sounds and "start_time" in sounds[0] else None,
    )


def pixels(path: Path, shown: Film, *, deinterlace: bool = False, is_untagged_hd: bool = False) -> np.ndarray:
    """Decode every frame, upright, as FFmpeg converts it to RGB by way of 8 bits and 4:2:0: NxHxWx3.

    `is_untagged_hd`: of BT.709, which FFmpeg does not assume of itself.
    """
    filters = "format=yuv420p"
    if deinterlace:
        filters = f"bwdif=mode=send_frame,{filters}"
    if is_untagged_hd:
        filters = f"{filters},scale=in_color_matrix=bt709"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-flags",
        "unaligned",
        "-i",
        str(path),
        "-map",
        f"0:{shown.index}",
        "-vsync",
        "passthrough",
    ]
    command += ["-vf", filters, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, timeout=300)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, shown.height, shown.width, 3)


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR of two pictures."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
