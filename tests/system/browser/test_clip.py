"""A whole clip on the page: each way to predict it, what is sent, and what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.browser.clips import count_frames, write_webm
from tests.system.browser.page import Demo


def test_a_whole_clip_goes_in_and_comes_out_to_see_and_to_keep(demo: Demo, tmp_path: Path) -> None:
    demo.page.click("#tab-clip")
    assert demo.page.is_disabled("#quality")
    demo.page.click("#predict")
    assert demo.error() == "That did not work. Choose a clip first."
    demo.page.set_input_files("#clip-file", write_webm(tmp_path / "clip.webm"))
    assert demo.text("#clip-name").startswith("clip.webm, ")
    demo.page.fill("#clip-frames", "3")
    demo.page.check("#clip-compare")
    demo.page.select_option("#route", "1")
    demo.page.select_option("#scale", "0.5")
    with demo.page.expect_request("**/v1/video?*") as sent:
        assert demo.predict() == "The clip is made."
    asked = sent.value.url.partition("?")[2]
    assert asked == "every=3&sound=copy&compare=1&blocks=1&scale=0.5"
    with demo.page.expect_download() as kept:
        demo.page.click("#clip-save")
    assert kept.value.suggested_filename == "clip-predicted.mp4"
    assert Path(kept.value.path()).read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("mode", "value", "query", "frames"),
    [
        ("fps", "20", "fps=20&sound=copy", 24),
        ("conceal", "", "conceal=1&sound=copy", 12),
        ("conceal", "30", "conceal=1&fps=30&sound=copy", 36),
    ],
)
def test_a_clip_at_another_rate_or_without_its_losses(
    demo: Demo, tmp_path: Path, mode: str, value: str, query: str, frames: int
) -> None:
    demo.page.click("#tab-clip")
    demo.page.check("#clip-compare")
    demo.page.select_option("#clip-mode", mode)
    assert demo.text("#clip-frames-name") == "Frames a second"
    assert demo.page.input_value("#clip-frames") == {"fps": "60", "conceal": ""}[mode]
    assert demo.page.is_disabled("#clip-compare"), "there is no true frame to set beside these"
    demo.page.set_input_files("#clip-file", write_webm(tmp_path / "clip.webm"))
    demo.page.fill("#clip-frames", value)
    demo.page.select_option("#route", "1")
    with demo.page.expect_request("**/v1/video?*") as sent:
        assert demo.predict() == "The clip is made."
    assert sent.value.url.partition("?")[2] == f"{query}&blocks=1"
    with demo.page.expect_download() as kept:
        demo.page.click("#clip-save")
    assert count_frames(Path(kept.value.path())) == frames
    demo.page.select_option("#clip-mode", "ahead")
    assert (demo.text("#clip-frames-name"), demo.page.is_enabled("#clip-compare")) == ("n", True)


def test_a_clip_that_cannot_be_made_says_why(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video")
    demo.page.click("#tab-clip")
    demo.page.set_input_files("#clip-file", tmp_path / "text.mp4")
    demo.page.click("#predict")
    assert "no video that can be read" in demo.error()
    assert demo.page.is_hidden("#clip-progress")
