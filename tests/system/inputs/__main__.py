"""Make clips and pictures with real tools, send each to a started service, judge: python -m tests.system.inputs.

Prints what came of each and writes docs/inputs.md. Exit 1 where one is not right. Names choose some of them:
`python -m tests.system.inputs gst. exif` runs those whose name begins so, and writes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import numpy as np

from tests.system.e2e.process import service
from tests.system.inputs import cameras, detours, films, judge, kinds, oddities, stills, tools
from tests.system.inputs.probe import decibels
from tests.system.inputs.recipe import Clip, Picture
from tests.system.inputs.report import REPORT, Result, document

#: What every recipe finds in its folder.
BASE = """
$FF -f lavfi -i testsrc2=size=128x96:rate=10:duration=2,gblur=2 -f yuv4mpegpipe -pix_fmt yuv420p base.y4m
$FF -f lavfi -i sine=frequency=440:duration=2:sample_rate=44100 base.wav
$FF -i base.y4m -i base.wav -c:v libx264 -crf 12 -pix_fmt yuv420p -c:a aac -shortest base.mp4
$FF -f lavfi -i testsrc2=size=256x192 -frames:v 1 -vf gblur=2 still.png
$FF -f lavfi -i testsrc2=size=256x192 -ss 1 -frames:v 1 -vf gblur=2 other.png
$FF -i still.png -q:v 1 -pix_fmt yuvj444p still.jpg
$FF -i still.png -vf scale=64:48 small.jpg
$FF -f lavfi -i color=red:size=64x64 -frames:v 1 cover.png
printf '1\\n00:00:00,000 --> 00:00:01,000\\nword\\n' > word.srt
$FF -i base.mp4 -c:v copy -c:a copy a.ts
$FF -i base.mp4 -i base.wav -map 0 -map 1 -c:v copy -c:a aac \\
  -metadata:s:a:0 language=eng -metadata:s:a:1 language=fra lang.mp4
x264 --quiet -o x264.mkv base.y4m
mkvmerge -q -o mkvmerge.mkv base.mp4
"""
SUFFIXES = {"video/mp4": ".mp4", "video/webm": ".webm", "video/x-matroska": ".mkv"}


def make(commands: str, folder: Path, out: str) -> str:
    """Run a recipe's commands; return what was wrong, or nothing."""
    script = "set -euo pipefail\n" + commands.replace("{out}", out)
    environment = {**os.environ, "FF": "ffmpeg -v error -nostdin -y -threads 2"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode or (out and not (folder / out).exists()):
        return f"could not be made: {' '.join(done.stderr.split())[-200:]}"
    return ""


def refusal(answer: httpx.Response, words: str) -> tuple[bool, str]:
    """Judge a problem document."""
    detail = answer.json()["detail"]
    return bool(words) and words.lower() in detail.lower(), f"refused, {answer.status_code}: “{detail}”"


def clip(http: httpx.Client, folder: Path, recipe: Clip) -> tuple[bool, str]:
    """Send a clip of which nothing is to be predicted, so that every frame must come back; judge the answer."""
    body = (folder / recipe.name).read_bytes()
    expected = recipe.expected
    try:
        answer = http.post("/v1/video?lost=99999", content=body, headers={"Accept": recipe.accept})
    except httpx.TransportError as error:
        return False, f"broke off: {error}"
    if answer.is_error:
        return refusal(answer, expected.refused)
    if expected.refused:
        return False, "was not refused"
    out = folder / f"answer{SUFFIXES[recipe.accept]}"
    out.write_bytes(answer.content)
    note = answer.headers.get("x-dmvfn-note", "")
    wrong = list(judge.faults(folder / recipe.name, out, expected, note))
    return not wrong, "; ".join(wrong) or (f"right; noted: “{note}”" if note else "right")


def picture(http: httpx.Client, folder: Path, recipe: Picture) -> tuple[bool, str]:
    """Send a picture as both frames; what follows a scene that stands still is that scene."""
    data = (folder / recipe.name).read_bytes()
    answer = http.post("/v1/predict?method=flow", files={"previous": data, "current": data})
    if answer.is_error:
        return refusal(answer, recipe.refused)
    if recipe.refused:
        return False, "was not refused"
    (folder / "answer.png").write_bytes(answer.content)
    shown, right = (_rgb(folder / name) for name in ("answer.png", recipe.name))
    if shown.shape != right.shape:
        return False, f"{shown.shape[1]}x{shown.shape[0]} pixels of {right.shape[1]}x{right.shape[0]}"
    same = decibels(shown, right)
    return same >= recipe.decibels, "right" if same >= recipe.decibels else f"pixels differ: {same:.1f} dB"


def _rgb(path: Path) -> np.ndarray:
    """A picture as ImageMagick shows it, upright."""
    command = [
        "convert-im6.q16",
        str(path),
        "-auto-orient",
        "-strip",
        "+set",
        "comment",
        "-colorspace",
        "sRGB",
        "-depth",
        "8",
        "ppm:-",
    ]
    data = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    _, size, _, rest = data.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(rest, np.uint8).reshape(height, width, 3)


def main(names: list[str]) -> int:
    """Make, send, judge; print and write the table."""
    recipes: tuple[Clip | Picture, ...] = (
        *(*films.CLIPS, *tools.CLIPS, *oddities.CLIPS, *detours.CLIPS, *kinds.CLIPS, *cameras.CLIPS),
        *(*stills.PICTURES, *oddities.PICTURES),
    )
    results: list[Result] = []
    with service() as running, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        failure = make(BASE, folder, "")
        assert not failure, failure
        with httpx.Client(base_url=running.http, timeout=300) as http:
            for recipe in recipes:
                if names and not recipe.name.startswith(tuple(names)):
                    continue
                failure = make(recipe.commands, folder, recipe.name)
                if failure:
                    is_right, text = False, failure
                elif isinstance(recipe, Clip):
                    is_right, text = clip(http, folder, recipe)
                else:
                    is_right, text = picture(http, folder, recipe)
                results.append(Result(recipe, is_right, text))
                print(f"{'  ' if is_right else '! '}{recipe.name:22} {recipe.about}: {text}", flush=True)
    if not names:
        REPORT.write_text(document(results))
    wrong = [result for result in results if not result.is_right]
    print(f"{len(results)} inputs, {len(wrong)} not right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
