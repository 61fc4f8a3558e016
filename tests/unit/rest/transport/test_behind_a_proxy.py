"""What callers are told by a service that a proxy passes on below a path, or by another name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import HTTPConnection

from service.rest.app import build
from service.rest.routes import video
from service.rest.transport import context
from service.rest.transport.origins import is_allowed
from service.serving.jobs.local import LocalJobs
from service.serving.jobs.video import VideoJobs
from service.serving.video.clip_resources import ClipResources
from service.settings import Settings
from tests.unit.imaging.pictures import Pixels, file_of
from tests.unit.rest.small import running
from tests.unit.serving.video.clips import moving, y4m

#: The address from which httpx' own transport asks.
PROXY = "127.0.0.1"
KEY = "ann-s-key-1"
LATER = {"Prefer": "respond-async", "Accept": "video/x-yuv4mpeg2"}


@asynccontextmanager
async def behind(trusted: tuple[str, ...], **fields: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests come by a proxy that adds `fields`, to a service that trusts `trusted`."""
    async with running(Settings(api_keys=(("ann", KEY),), trusted_proxies=trusted)) as small:
        state = small.parts
        jobs = LocalJobs(state.settings, small.engine, state.metrics)
        resources = ClipResources(state)
        clips = VideoJobs(state.settings, resources, state.work, state.metrics)
        app = build(state, (video.router(state, resources, clips, jobs),), jobs=jobs, clips=clips)
        headers = {"Authorization": f"Bearer {KEY}", **fields}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            yield client

        await jobs.close()


@pytest.mark.parametrize(("trusted", "prefix"), [((PROXY,), "/video/dmvfn"), ((), ""), (("192.0.2.1",), "")])
async def test_jobs_and_clips_are_where_a_trusted_proxy_says(
    trusted: tuple[str, ...], prefix: str, previous: Pixels, current: Pixels
) -> None:
    files = [("frames", ("f", file_of(frame, "PNG"))) for frame in (previous, current)]
    async with behind(trusted, **{"X-Forwarded-Prefix": "/video/dmvfn"}) as client:
        job = await client.post("/v1/jobs", files=files)
        clip = await client.post("/v1/video?every=2", content=y4m(moving(3)), headers=LATER)
        for answer, path, listed in ((job, "jobs", "jobs"), (clip, "video", "clips")):
            ident = answer.json()["id"]
            place = f"{prefix}/v1/{path}/{ident}"
            links = {"self": place, "result": f"{place}/result"}
            assert (answer.headers["location"], answer.json()["links"]) == (place, links)
            own = f"/v1/{path}/{ident}"
            assert (await client.get(own)).json()["links"] == links
            events = await client.get(own, headers={"Accept": "text/event-stream"})
            assert f'"self": "{place}"' in events.text
            assert [entry["links"] for entry in (await client.get(f"/v1/{path}")).json()[listed]] == [links]
            other = "/v1/video" if path == "jobs" else "/v1/jobs"
            assert place in (await client.get(f"{other}/{ident}")).json()["detail"]
            assert (await client.delete(own)).json()["links"] == links


async def test_a_prediction_that_is_preferred_later_is_there_too(previous: Pixels, current: Pixels) -> None:
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    async with behind((PROXY,), **{"X-Forwarded-Prefix": "/dmvfn"}) as client:
        answer = await client.post("/v1/predict", files=files, headers={"Prefer": "respond-async"})
        assert answer.headers["location"] == f"/dmvfn/v1/jobs/{answer.json()['id']}"


@pytest.mark.parametrize(
    ("forwarded_host", "origin", "is_ours"),
    [
        ("dmvfn.example", b"https://dmvfn.example", True),
        ("dmvfn.example:8443", b"https://dmvfn.example:8443", True),
        ("dmvfn.example", b"https://evil.example", False),
        ("dmvfn.example", b"http://10.0.0.7:8000", False),  # of that name no page of ours came
        (None, b"https://dmvfn.example", False),
        (None, b"http://10.0.0.7:8000", True),
    ],
)
def test_our_own_page_is_known_by_the_name_that_the_proxy_was_called_by(
    forwarded_host: str | None, origin: bytes, is_ours: bool
) -> None:
    connection = HTTPConnection({"type": "websocket", "headers": [(b"host", b"10.0.0.7:8000"), (b"origin", origin)]})
    request_context = context.begin(None, None, 0.0)
    request_context.host = forwarded_host
    context.put(connection.scope, request_context)
    assert is_allowed(connection, ()) is is_ours
