"""The page at /docs: every operation, filled in and sent by a person with nothing but a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from service.settings import Settings
from tests.system.browser.page import Demo
from tests.system.e2e.process import SAMPLES
from tests.unit.client.serving import Serving, serving


@pytest.fixture
def reference(browser: Any, running: Serving) -> Any:
    with Demo(browser, f"{running.url}/docs", ready=".operation") as page:
        yield page
        assert page.troubles == []


def test_every_operation_of_the_document_is_there_and_opens(reference: Demo, running: Serving) -> None:
    paths = httpx.get(f"{running.url}/openapi.json").json()["paths"]
    ids = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    shown = reference.page.evaluate("[...document.querySelectorAll('.operation')].map((each) => each.id)")
    assert (set(shown), len(shown)) == (ids, len(ids))
    reference.page.evaluate("document.querySelectorAll('.operation').forEach((each) => { each.open = true; })")
    reference.until("[...document.querySelectorAll('.operation')].every((each) => each.querySelector('button'))")


def test_a_form_with_files_is_sent_and_its_picture_shown(reference: Demo, tmp_path: Path) -> None:
    reference.page.click("#predict > summary")
    for k, name in enumerate(("previous", "current")):
        # Small: what larger ones cost is a guess on a machine that is busy while it warms up.
        with Image.open(SAMPLES / f"frame0{k}.png") as image:
            image.resize((64, 48)).save(tmp_path / f"frame0{k}.png")
        reference.page.set_input_files(f"#predict input[type=file][name={name}]", tmp_path / f"frame0{k}.png")
    reference.page.fill("#predict [name=blocks]", "2")
    reference.page.click("#predict button")
    reference.page.wait_for_selector("#predict .answer img")
    assert reference.text("#predict .answer b") == "200 OK"
    line = reference.text("#predict .inside > pre")
    assert "-X POST" in line
    assert "-F 'previous=@frame00.png'" in line
    assert "/v1/predict?blocks=2'" in line


def test_what_a_path_needs_is_asked_for_and_errors_are_shown(reference: Demo) -> None:
    reference.page.click("#getProblem > summary")
    reference.page.click("#getProblem button")
    assert reference.text("#getProblem .answer") == "Fill in code first."
    reference.page.fill("#getProblem [name=code]", "nonsense")
    reference.page.click("#getProblem button")
    reference.page.wait_for_selector("#getProblem .answer pre")
    assert "404" in reference.text("#getProblem .answer b")
    assert "there is no such error code" in reference.text("#getProblem .answer pre")


def test_a_key_is_sent_where_the_server_has_some(browser: Any) -> None:
    settings = Settings(api_keys=(("ann", "correct-horse"),))
    with serving(settings) as guarded, Demo(browser, f"{guarded.url}/docs", ready=".operation") as page:
        page.page.click("#getModel > summary")
        page.page.click("#getModel button")
        page.until("document.querySelector('#getModel .answer b')?.textContent.startsWith('401')")
        page.page.fill("#key", "correct-horse")
        page.page.click("#getModel button")
        page.until("document.querySelector('#getModel .answer b')?.textContent.startsWith('200')")
