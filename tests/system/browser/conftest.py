"""A real service with a tiny network, and a real Chromium whose camera is a file of ours."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.core.types import Frame
from service.serving.video.clip import Timed
from service.serving.video.y4m import Y4mSink
from tests.system.browser.page import FLAGS, Demo
from tests.system.e2e.process import SAMPLES
from tests.tools import missing, require
from tests.unit.client.serving import Serving, serving


@pytest.fixture(scope="session")
def running() -> Iterator[Serving]:
    require("chromium")
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample clip there and back, as a camera would see it."""
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with path.open("wb") as file:
        sink = Y4mSink(file, 224, 128, Fraction(15), "420")
        for k in [*range(12), *range(10, 0, -1)]:
            with Image.open(SAMPLES / f"frame{k:02}.png") as image:
                pixels = np.array(image.convert("RGB").resize((224, 128)))
            sink.write(Timed(Frame(pixels), k))
    return path


@pytest.fixture(scope="session")
def browser(camera: Path) -> Iterator[object]:
    chromium = require("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright (PyPI)")
    flags = [
        *FLAGS,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield found
        found.close()


@pytest.fixture
def demo(browser: object, running: Serving) -> Iterator[Demo]:
    """The page, opened; at the end nothing may have gone wrong in it unnoticed."""
    with Demo(browser, running.url) as page:
        yield page
        assert page.troubles == []
