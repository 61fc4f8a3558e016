"""What came of every input as a table: docs/inputs.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.system.e2e.process import ROOT
from tests.system.inputs.recipe import Clip, Picture

REPORT = ROOT / "docs" / "inputs.md"
HEAD = """\
# Clips and pictures that were tested, one by one

Clips and pictures made with real tools, each sent to a started service; written by `make inputs`, which makes them and
fails where one is not right. A clip is sent with nothing to predict, so that every frame must come back: judged by
ffprobe (size, shape of the picture, colours, each frame's time, length, sounds, languages, whether sound and pictures
are in step) and by the pixels that FFmpeg decodes of both. A picture is sent as both frames, of which the next must be
the same again: judged by the pixels that ImageMagick decodes. What is refused must say why. What each kind becomes:
[video.md](video.md).
"""


@dataclass(frozen=True, slots=True)
class Result:
    """An input, and what came of it."""

    recipe: Clip | Picture
    is_right: bool
    text: str


def document(results: Sequence[Result]) -> str:
    """Return the document."""
    clips = [result for result in results if isinstance(result.recipe, Clip)]
    pictures = [result for result in results if isinstance(result.recipe, Picture)]
    return HEAD + _table("Clips", clips) + _table("Pictures", pictures)


def _table(title: str, results: Sequence[Result]) -> str:
    lines = [f"\n## {title}\n\n| {len(results)} inputs | what it is | result |\n| --- | --- | --- |\n"]
    for result in results:
        about, text = (words.replace("|", "/") for words in (result.recipe.about, result.text))
        lines.append(f"| {result.recipe.name} | {about} | {'' if result.is_right else '**wrong**: '}{text} |\n")
    return "".join(lines)
