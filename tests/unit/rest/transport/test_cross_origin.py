"""What scripts of another origin may read of an answer: all that is said in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from service.rest.app import build
from service.rest.routes import oip, video
from service.rest.transport.middleware import SECURITY_HEADERS
from service.serving.jobs.local import LocalJobs
from service.settings import Settings
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.small import running
from tests.unit.serving.video.clips import moving, y4m

PAGE = "https://app.example"
#: What each script may read anyhow (Fetch, 2.2.2), and what says nothing to one.
READABLE = {"cache-control", "content-length", "content-type", "content-language", "expires", "last-modified", "pragma"}
FOR_BROWSERS = {name.lower() for name in SECURITY_HEADERS} | {"vary", "connection", "content-encoding"}
PNG = "image/png"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with running(Settings(cors_origins=(PAGE,), max_pixels=100_000)) as small:
        state = small.parts
        jobs = LocalJobs(state.settings, small.engine, state.metrics)
        app = build(state, (video.router(state), oip.router(state)), jobs=jobs)
        transport, headers = httpx.ASGITransport(app), {"Origin": PAGE}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            yield client
        await jobs.close()


def _hidden(headers: Mapping[str, str]) -> set[str]:
    """Return the headers of an answer that a script of another origin cannot read."""
    exposed = {name.strip().lower() for name in headers["access-control-expose-headers"].split(",")}
    return {name for name in headers if not name.startswith("access-control-")} - exposed - READABLE - FOR_BROWSERS


async def test_all_that_an_answer_says_can_be_read_by_a_page_of_another_origin(
    http: httpx.AsyncClient, previous: Pixels, current: Pixels
) -> None:
    """A page could not tell which method had predicted, for which moment, or what a clip's file is called."""
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    tensor = {"name": "FRAMES", "datatype": "UINT8", "shape": [1, 2, 16, 16, 3], "data": [7] * 1536}
    inference = {"inputs": [tensor], "outputs": [{"name": "ROUTE"}], "parameters": {"binary_data_output": True}}
    clip = await http.post("/v1/video?every=2", content=y4m(moving(4)), headers={"Prefer": "respond-async"})
    path = clip.headers["location"]
    while (await http.get(f"{path}?wait=5")).json()["state"] in ("queued", "running"):
        pass
    answers = [
        await http.post("/v1/predict?route=sample&seed=3", files=files),
        await http.post("/v1/predict?t=0.5", files=files, headers={"Accept": "application/octet-stream"}),
        await http.post("/v1/predict", files=files, headers={"Prefer": "respond-async"}),
        await http.post("/v1/predict", files={}),
        await http.put("/v1/model"),
        await http.post("/v2/models/dmvfn/infer", json=inference),
        clip,
        await http.get(f"{path}/result", headers={"Range": "bytes=0-3"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 202, 415, 405, 200, 202, 206]
    assert set().union(*(_hidden(answer.headers) for answer in answers)) == set()
    seen = {name for answer in answers for name in answer.headers}
    assert {"x-dmvfn-method", "x-dmvfn-seed", "x-frame-shape", "etag", "content-disposition", "location"} <= seen


async def test_every_header_that_the_reference_promises_can_be_read(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    promised = {
        name.lower()
        for operations in document["paths"].values()
        for operation in operations.values()
        for answer in operation["responses"].values()
        for name in answer.get("headers", {})
    }
    assert {"x-dmvfn-shares", "x-dmvfn-cut", "x-dmvfn-note"} <= promised
    exposed = (await http.get("/v1/model")).headers["access-control-expose-headers"].lower().split(", ")
    assert promised - set(exposed) == set()
