"""Every option with values that cost much or mean nothing: a plain answer that names it, at once, on every edge."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from service.cli.video import main
from service.core.errors import InvalidRequest
from service.rest.formats import stream_messages
from service.rest.routes import oip, video
from service.settings import Settings
from tests.measured import UpperBounds
from tests.unit.imaging.pictures import noise
from tests.unit.rest.small import Small, running

RANGES = ",".join(f"{k * 1000001}-{k * 1000001 + 1000000}" for k in range(30))
LONG = "9" * 60_000
NUMBERS = (LONG, "1e400", "nan", "-1", "1" * 19, "\u0663", "")
#: One service for all: what is refused leaves nothing behind, and to build it takes longer than the refusal.
MODULE = pytest.mark.asyncio(loop_scope="module")
#: Seconds that an answer may take of the thread all share: mostly a fiftieth, before the bounds up to nineteen.
AT_ONCE = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge() -> AsyncIterator[Small]:
    async with running(Settings(max_body_bytes=2**20)) as small:
        small.app.include_router(oip.router(small.parts))
        small.app.include_router(video.router(small.parts))
        yield small


async def _refused(edge: Small, path: str, field: str, **how: Any) -> None:
    bounds = UpperBounds(thread_s=AT_ONCE)
    while bounds.unmet():
        gc.disable()  # a collection of what other tests left would count as this request's time
        began = time.thread_time()
        try:
            answer = await edge.http.post(path, **how)
            bounds.measured(thread_s=time.thread_time() - began)
        finally:
            gc.enable()
        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text[:300]
        assert len(answer.content) < 2000


@pytest.mark.parametrize("name", ["ahead", "every", "blocks", "scale"])
@pytest.mark.parametrize("value", NUMBERS)
@MODULE
async def test_numbers_of_a_clip(edge: Small, name: str, value: str) -> None:
    query = {name: value} if name in ("ahead", "every") else {"every": "2", name: value}
    await _refused(edge, "/v1/video", name, params=query, content=b"x")


@pytest.mark.parametrize("value", [LONG, "1," * 15_000, "9-1", "1-9999999999", "x" * 60_000, "\u0663", ","])
@MODULE
async def test_lost_frames_of_a_clip(edge: Small, value: str) -> None:
    await _refused(edge, "/v1/video", "lost", params={"lost": value}, content=b"x")


@MODULE
async def test_wide_ranges_of_lost_frames_cost_nothing(edge: Small) -> None:
    # Nothing is wrong with them but that there is no clip.
    await _refused(edge, "/v1/video", "body", params={"lost": RANGES})


@pytest.mark.parametrize("name", ["steps", "seed", "blocks", "scale", "deadline_ms", "image_quality"])
@pytest.mark.parametrize("value", NUMBERS)
@MODULE
async def test_options_of_a_prediction_in_query_and_form(edge: Small, name: str, value: str) -> None:
    files = {"previous": noise(16, 16, 1).tobytes(), "current": noise(16, 16, 2).tobytes()}
    await _refused(edge, "/v1/predict", name, params={name: value}, files=files)
    await _refused(edge, "/v1/predict", name, data={name: value}, files=files)


@pytest.mark.parametrize("name", ["steps", "seed", "blocks", "deadline_ms", "image_quality"])
@pytest.mark.parametrize("value", ["9" * 4000, "-1", "1e400", "[[]]", '"1"', "{}"])
@MODULE
async def test_options_of_a_prediction_in_json(edge: Small, name: str, value: str) -> None:
    body = f'{{"previous": "", "current": "", "{name}": {value}}}'
    await _refused(edge, "/v1/predict", name, content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("name", ["steps", "seed", "blocks", "scale", "timeout"])
@pytest.mark.parametrize("value", ["9" * 4000, "-1", "1e400", "[]", '"' + "9" * 4000 + '"'])
@MODULE
async def test_parameters_of_the_inference_protocol(edge: Small, name: str, value: str) -> None:
    tensor = '{"name":"FRAMES","datatype":"UINT8","shape":[1,2,1,1,3],"data":[1,2,3,4,5,6]}'
    body = f'{{"inputs": [{tensor}], "parameters": {{"{name}": {value}}}}}'
    await _refused(edge, "/v2/models/dmvfn/infer", f"parameters.{name}", content=body)


@pytest.mark.parametrize("side", ["9" * 4000, "1e400", "-1", "{}", "18446744073709551616"])
@MODULE
async def test_sides_of_a_tensor(edge: Small, side: str) -> None:
    body = f'{{"inputs": [{{"name":"FRAMES","datatype":"UINT8","shape":[1,2,{side},{side},3],"data":[1]}}]}}'
    answer = await edge.http.post("/v2/models/dmvfn/infer", content=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["field"].startswith("inputs")
    assert len(answer.content) < 2000


@pytest.mark.parametrize("name", ["horizon", "window", "seed", "blocks", "scale", "frame_deadline_ms", "image_quality"])
@pytest.mark.parametrize("value", ["9" * 4000, "-1", "1e400", "[]"])
def test_options_of_a_stream(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        stream_messages.start(f'{{"type": "start", "{name}": {value}}}', max_steps=16, max_deadline_ms=1000)
    assert refused.value.field == name


def test_a_text_message_of_a_stream_is_bounded() -> None:
    with pytest.raises(InvalidRequest, match="at most"):
        stream_messages.incoming('{"type": ' + "[" * 2**20)


@pytest.mark.parametrize("option", [("--ahead", "9" * 4000), ("--every", "9" * 4000), ("--every", "0")])
def test_options_of_the_command_line(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.y4m", "-o", "out.y4m", *option], Settings()) == 1
    assert option[0] in capsys.readouterr().err


@MODULE
async def test_all_at_once_leave_time_for_others(edge: Small) -> None:
    bounds = UpperBounds(thread_s=20 * AT_ONCE)
    while bounds.unmet():
        began = time.thread_time()
        await asyncio.gather(*(edge.http.post("/v1/video", params={"lost": RANGES}) for _ in range(20)))
        bounds.measured(thread_s=time.thread_time() - began)
