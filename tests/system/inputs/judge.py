"""Judges an answer by ffprobe and by pixels: what of the source did not come out as it must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.system.inputs.probe import Film, decibels, film, pixels
from tests.system.inputs.recipe import Expected


def faults(source: Path, answer: Path, expected: Expected, note: str) -> Iterator[str]:
    """Say in words each thing that is wrong with the answer; nothing: it is right. `note` is what the service said."""
    before, after = film(source), film(answer)
    if before is None or after is None:
        yield "ffprobe finds no film"
        return
    if expected.note not in note or (note and not expected.note):
        yield f"the note is “{note}”"
    yield from _shape(before, after, expected)
    yield from _times(before, after, expected)
    yield from _sound(before, after, expected)
    if len(after.times) == len(before.times) or expected.frames:
        yield from _pixels(source, answer, before, after, expected)


def _shape(before: Film, after: Film, expected: Expected) -> Iterator[str]:
    if expected.is_square:
        width, height = round(before.height * before.aspect), before.height
    else:
        width, height = before.width, before.height
        if "even" in expected.note:
            width, height = width + width % 2, height + height % 2
    if abs(after.width - width) > (2 if expected.is_square else 0) or after.height != height:
        yield f"{after.width}x{after.height} pixels of {width}x{height}"
    aspect = (expected.aspect or before.aspect) * (width / before.width) * (before.height / height)
    if "even" in expected.note or expected.is_square:
        aspect = after.width / after.height
    if abs(after.aspect / aspect - 1) > 0.01:
        yield f"shown {after.aspect:.3f} wide, not {aspect:.3f}"
    if expected.is_mapped:
        if set(after.colours.values()) != {"bt709"}:
            yield f"tagged {after.colours}, not as BT.709"
    elif before.colours != {key: value for key, value in after.colours.items() if key in before.colours}:
        yield f"tagged {after.colours}, not {before.colours}"


def _times(before: Film, after: Film, expected: Expected) -> Iterator[str]:
    frames = expected.frames or len(before.times)
    if len(after.times) != frames:
        yield f"{len(after.times)} frames of {frames}"
        return
    times = [k * expected.step for k in range(frames)] if expected.step else list(before.times)
    worst = max(abs(a - b) for a, b in zip(after.times, times, strict=True))
    if worst > expected.tolerance:
        yield f"a frame is shown {worst:.3f} s away from its time"
    duration = frames * expected.step or before.duration
    if abs(after.duration - duration) > max(expected.tolerance, 0.01):
        yield f"{after.duration:.3f} s long, not {duration:.3f}"


def _sound(before: Film, after: Film, expected: Expected) -> Iterator[str]:
    sounds = expected.sounds or (before.sounds if expected.has_sound else ())
    if after.sounds != sounds:
        yield f"sound {', '.join(after.sounds) or 'none'}, not {', '.join(sounds) or 'none'}"
        return
    if expected.languages and after.languages != expected.languages:
        yield f"languages {after.languages}, not {expected.languages}"
    if after.sound_first is not None and before.sound_first is not None:
        apart = (after.sound_first - after.first) - (before.sound_first - before.first)
        if abs(apart) > 0.05:
            yield f"sound {apart:.3f} s out of step"


def _pixels(source: Path, answer: Path, before: Film, after: Film, expected: Expected) -> Iterator[str]:
    # The rule for a clip that names no matrix: docs/video.md.
    is_untagged_hd = [film.height >= 720 and "color_space" not in film.colours for film in (before, after)]
    right = pixels(source, before, deinterlace=expected.is_interlaced, is_untagged_hd=is_untagged_hd[0])
    shown = pixels(answer, after, is_untagged_hd=is_untagged_hd[1])
    if expected.frames:
        right = right[: expected.frames]  # a last one that is cut in half is left out
    if len(right) != len(shown):
        yield f"{len(shown)} frames decode of {len(right)}"
        return
    if expected.is_mapped:
        # Other pixels by design: what is bright must be where it was.
        alike = np.corrcoef(right.mean(3).ravel(), shown.mean(3).ravel())[0, 1]
        if alike < 0.8:
            yield f"brightness is another: correlation {alike:.2f}"
        return
    if expected.is_square:
        return  # resampled: judged by shape and times
    right = right[:, : shown.shape[1], : shown.shape[2]]
    shown = shown[:, : right.shape[1], : right.shape[2]]
    worst = min(decibels(one, other) for one, other in zip(right, shown, strict=True))
    if worst < expected.decibels:
        yield f"pixels differ: {worst:.1f} dB"
