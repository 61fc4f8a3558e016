"""README says what is so: figures of the weights, the evaluation and the comparison; which pictures are taken."""

from __future__ import annotations

import json
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from io import BytesIO
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from service.core.errors import InvalidFrame
from service.imaging.codec import FrameLimits, decode
from service.settings import Settings
from tests.system.e2e.process import ROOT

README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
COMPARISON = (ROOT / "docs" / "comparison.md").read_text()


LIMITS = FrameLimits.of(Settings())


def _file(mode: str, size: tuple[int, int], kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, 0).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "BMP", "PPM"])
def test_still_opaque_pictures_are_taken_up_to_sixteen_to_one(kind: str) -> None:
    for mode in ("RGB", "L"):  # Pillow writes grey PPM as PGM
        for size in ((16, 16), (256, 16)):
            frame = decode(_file(mode, size, kind), LIMITS, "current")
            assert (frame.width, frame.height) == size


def test_4k_is_within_the_limits() -> None:
    LIMITS.check(4096, 2160, "current")


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (_file("RGBA", (32, 32), "PNG"), "transparent"),
        (_file("CMYK", (32, 32), "JPEG"), "CMYK"),
        (_file("RGB", (32, 32), "WebP", save_all=True, append_images=[Image.new("RGB", (32, 32), "red")]), "animated"),
        (_file("RGB", (257, 16), "PNG"), "at most 16 times"),
        (_file("RGB", (32, 15), "PNG"), "at least 16"),
    ],
    ids=["transparent", "cmyk", "animated", "narrow", "small"],
)
def test_what_readme_says_is_refused_is_and_says_why(picture: bytes, reason: str) -> None:
    with pytest.raises(InvalidFrame, match=reason):
        decode(picture, LIMITS, "current")


def _script(name: str) -> ModuleType:
    spec = spec_from_loader(name, SourceFileLoader(name, str(ROOT / "scripts" / name)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_decibels_under_the_picture_are_those_of_the_shipped_weights() -> None:
    caption = re.search(
        r"Frames (\d+) and (\d+) of `samples/` in, frame (\d+) .*?: ([\d.]+) dB .* ([\d.]+) dB\.", README
    )
    assert caption is not None
    shown = _script("prediction-picture").compare(tuple(int(index) for index in caption.group(1, 2, 3)))
    assert [f"{shown.psnr_predicted:.1f}", f"{shown.psnr_repeated:.1f}"] == list(caption.group(4, 5))


def test_the_decibels_on_held_out_video_are_those_of_the_evaluation() -> None:
    lines = json.loads((ROOT / "docs" / "evaluation.json").read_text())["methods"]
    by = {(line["method"], line["mean_over_steps_1_to"]): f"{line['psnr']:.1f}" for line in lines}
    text = README.split("The weights of today:")[1].split("They were trained")[0]
    methods = ("auto", "repeat", "dis")
    assert re.findall(r"\d\d\.\d", text) == [by[method, steps] for steps in (1, 3) for method in methods]


def test_the_decibels_of_the_flow_method_are_those_of_the_evaluation() -> None:
    document = json.loads((ROOT / "docs" / "evaluation.json").read_text())
    psnr = {(line["method"], line["mean_over_steps_1_to"]): line["psnr"] for line in document["methods"]}
    clips = list(document["psnr_t1_by_clip"].values())
    gains = [scores["flow"] - scores["dis"] for scores in clips]
    worst = min(scores["flow"] - max(scores["dis"], scores["repeat"]) for scores in clips)
    text = README.split("`method=flow` leaves the network out")[1].split("to t+3")[0]
    figures = [f"{psnr['flow', 1]:.1f}", f"{sum(gains) / len(gains):.2f}", f"{-worst:.2f}", f"{psnr['flow', 3]:.2f}"]
    assert re.findall(r"\d+\.\d+", text) == figures
    assert len(gains) == 11
    ahead = {11: "all eleven", 10: "ten of eleven", 9: "nine of eleven"}[sum(gain > 0 for gain in gains)]
    assert f"ahead on {ahead} clips" in " ".join(text.split())


def test_the_shares_answered_in_time_are_those_of_the_benchmarks() -> None:
    row = re.search(r"^\| requests answered .*?\| (\d+) %, (\d+) % \| (.+) \|$", README, re.MULTILINE)
    assert row is not None
    others = {
        name.lower(): (int(less), int(more)) for name, less, more in re.findall(r"(\w+) (\d+) %, (\d+) %", row[3])
    }
    table = BENCHMARKS.split("<!-- peers -->")[1].split("Percent of")[0]
    lines = re.findall(r"^\| (\w+) \| \d+ \(.+?\) \| (\d+) \(.+?\) \| (\d+) \(", table, re.MULTILINE)
    assert {"ours": (int(row[1]), int(row[2])), **others} == {
        name: (int(less), int(more)) for name, less, more in lines
    }


def test_milliseconds_and_decibels_beside_others_are_those_of_the_benchmarks() -> None:
    rows = README.split("## Beside general servers")[1].split("\n\n")[1].splitlines()
    figures = [
        figure for row in rows if " ms" in row or " dB" in row for figure in re.findall(r"[\d,.]+(?= ms| dB)", row)
    ]
    assert len(figures) == 6
    assert [figure for figure in figures if not re.search(rf"\b{re.escape(figure)}\b", BENCHMARKS)] == []


def test_what_is_compared_says_where_it_was_read() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", COMPARISON, re.MULTILINE)[1:]
    claims = [row for row in rows if not row.startswith("---")]
    assert re.findall(r"^\*\*(.+)\.\*\*", COMPARISON, re.MULTILINE) == claims
    listed = re.findall(r"^- (.+)$", README.split("## Beside general servers")[1].split("\n## ")[0], re.MULTILINE)
    assert [line for line in listed if line.split(":")[0] not in {claim.split(":")[0] for claim in claims}] == []
    assert len(listed) > 5
