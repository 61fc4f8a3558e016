from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.rest.app import build
from service.rest.routes import demo
from tests.unit.rest.small import running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with running() as small:
        transport = httpx.ASGITransport(build(small.parts, (demo.router(small.parts),)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


async def test_every_file_that_the_page_names_is_there(http: httpx.AsyncClient) -> None:
    page = await http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    names = {f"/{name}" for name in re.findall(r'(?:src|href)="(demo/[^"]+)"', page.text)}
    assert len(names) >= 5
    scripts = list(demo.FOLDER.glob("*.js"))
    for script in scripts:
        names |= {f"/demo/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    assert len(names) >= 10
    for name in sorted(names):
        assert (await http.get(name)).status_code == 200, name


def test_a_page_below_a_path_of_a_proxy_finds_everything() -> None:
    """Names in a page are relative to it, and scripts ask for all by `address`, which begins where they lie."""
    for path in demo.FOLDER.glob("*.html"):
        assert not re.search(r'(?:src|href)="/', path.read_text()), path.name
    for path in demo.FOLDER.glob("*.js"):
        assert not re.search(r"""(?:fetch|URL|import)\(["'`]/""", path.read_text()), path.name


async def test_nothing_from_elsewhere_is_loaded_or_allowed(http: httpx.AsyncClient) -> None:
    policy = (await http.get("/")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in demo.FOLDER.rglob("*.*"):
        if path.suffix in (".html", ".js", ".css"):
            assert not re.search(r"""(?:src|href|url|from|import)\W{1,3}(?:https?:)?//""", path.read_text()), path.name


async def test_no_inline_code_or_style_which_the_policy_would_stop(http: httpx.AsyncClient) -> None:
    text = (await http.get("/")).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


async def test_a_file_that_has_not_changed_is_not_sent_again(http: httpx.AsyncClient) -> None:
    first = await http.get("/demo/app.js")
    again = await http.get("/demo/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["../pages.py", "%2e%2e/pages.py", "nothing.js", "clips", "/etc/passwd"])
async def test_paths_reach_no_other_file(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"/demo/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_the_bundled_clips_are_small_and_whole() -> None:
    for clip in ("hills", "lanterns"):
        frames = sorted(Path(demo.FOLDER / "clips" / clip).glob("*.webp"))
        assert [frame.stem for frame in frames] == [f"{k:02}" for k in range(12)]
        assert sum(frame.stat().st_size for frame in frames) < 300_000
