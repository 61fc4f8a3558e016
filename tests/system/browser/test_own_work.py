"""The page's list of a key's own jobs and clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.system.browser.page import Demo
from tests.system.e2e.process import SAMPLES
from tests.unit.client.serving import Serving, serving
from tests.unit.serving.video.clips import moving, y4m

ANN = {"Authorization": "Bearer correct-horse"}
CLIP = {
    **ANN,
    "Prefer": "respond-async",
    "Accept": "video/x-yuv4mpeg2",
    "Content-Disposition": 'attachment; filename="walk.y4m"',
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Serving]:
    with serving(Settings(api_keys=(("ann", "correct-horse"), ("bob", "battery-staple")))) as found:
        yield found


def _clip(http: httpx.Client, body: bytes) -> str:
    return _ended(http, http.post("/v1/video?lost=99999", content=body, headers=CLIP))


def _job(http: httpx.Client) -> str:
    files = [("frames", (SAMPLES / f"frame0{k}.png").read_bytes()) for k in range(3)]
    return _ended(http, http.post("/v1/jobs?blocks=1", files=files, headers=ANN))


def _ended(http: httpx.Client, accepted: httpx.Response) -> str:
    """The id of what was accepted, once it has ended."""
    path = accepted.headers["location"]
    while http.get(f"{path}?wait=50", headers=ANN).json()["state"] in ("queued", "running"):
        pass
    return path.rpartition("/")[2][:8]


def _enter(demo: Demo, key: str) -> None:
    demo.page.wait_for_selector("#key-field:not([hidden])")
    demo.page.fill("#key", key)
    demo.page.locator("#key").blur()
    demo.page.wait_for_selector("#own:not([hidden])")


def test_a_key_sees_saves_and_deletes_what_is_its_own(browser: Any, guarded: Serving) -> None:
    with httpx.Client(base_url=guarded.url, timeout=60) as http:
        body = y4m(moving(5))
        clip, job, broken = _clip(http, body), _job(http), _clip(http, body[:-9])
    with Demo(browser, guarded.url) as demo:
        demo.page.wait_for_selector("#key-field:not([hidden])")
        assert demo.page.is_hidden("#own")
        _enter(demo, "correct-horse")
        rows = [row.split("\t") for row in demo.page.locator("#own-rows tr").all_inner_texts()]
        assert [(row[0], row[1]) for row in rows] == [("Clip", broken), ("Job", job), ("Clip", clip)]
        assert [row[3] for row in rows] == ["failed: the y4m stream ends inside frame 4", "done", "done"]
        assert [row[4] for row in rows[1:]] == ["2 pairs", "5 frames"]
        assert demo.page.locator("#own-rows button").all_inner_texts() == ["Delete", "Save", "Delete", "Save", "Delete"]

        with demo.page.expect_download() as kept:
            demo.page.click(f'[aria-label="Save Clip {clip}"]')
        assert kept.value.suggested_filename == "walk.y4m"
        assert Path(kept.value.path()).read_bytes().count(b"FRAME") == 5
        with demo.page.expect_download() as kept:
            demo.page.click(f'[aria-label="Save Job {job}"]')
        assert kept.value.suggested_filename == f"job-{job}.json"
        assert len(json.loads(Path(kept.value.path()).read_bytes())["frames"]) == 2

        for label in (f"Clip {broken}", f"Job {job}", f"Clip {clip}"):
            demo.page.click(f'[aria-label="Delete {label}"]')
            demo.until(f"document.getElementById('said').textContent === '{label} is deleted.'")
        demo.until("document.getElementById('own-note').textContent === 'This key has no jobs or clips.'")
        assert demo.page.evaluate("document.activeElement.id") == "own-title"
        assert demo.page.is_hidden("#own-table")


def test_a_key_sees_nothing_of_another_keys(browser: Any, guarded: Serving) -> None:
    with httpx.Client(base_url=guarded.url, timeout=60) as http:
        _clip(http, y4m(moving(3)))
    with Demo(browser, guarded.url) as demo:
        _enter(demo, "battery-staple")
        assert demo.text("#own-note") == "This key has no jobs or clips."
        demo.page.fill("#key", "nobody-knows")
        demo.page.locator("#key").blur()
        demo.page.wait_for_selector("#own", state="hidden")


def test_where_there_are_no_keys_nothing_is_listed(demo: Demo) -> None:
    demo.predict()
    assert demo.page.is_hidden("#own")
