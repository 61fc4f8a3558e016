"""Bytes in flight are counted to the last one that a reader takes."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from service.core.errors import QueueFull
from service.rest.transport import pieces
from service.rest.transport.pieces import PiecedResponse
from service.serving.byte_budget import ByteBudget
from service.settings import Settings
from tests.unit.rest.small import running
from tests.unit.rest.wired import Wire, until, wired

SIDE, STEPS = 512, 16
ANSWER = SIDE * SIDE * 3 * STEPS  #: bytes: more than a socket's buffers hold


def ask(side: int = SIDE, steps: int = STEPS) -> bytes:
    head = f"POST /v1/predict?steps={steps} HTTP/1.1\r\nHost: localhost\r\nAccept: application/octet-stream\r\n"
    head += f"Content-Type: application/octet-stream\r\nX-Frame-Shape: 2,{side},{side},3\r\n"
    return f"{head}Content-Length: {2 * side * side * 3}\r\n\r\n".encode() + bytes(2 * side * side * 3)


async def whole(wire: Wire) -> int:
    return len((await wire.answer()).body)


async def test_an_answer_that_is_not_read_counts_and_the_next_one_is_refused() -> None:
    settings = Settings(max_inflight_bytes=2 * ANSWER + 2**20)
    async with wired(settings) as house, house.connect() as slow, house.connect() as other:
        budget, work = house.small.parts.budget, house.small.parts.work
        await slow.send(ask())
        await until(lambda: len(house.small.engine.ran) == 1 and 0 < budget.held < 1.1 * ANSWER)
        await asyncio.sleep(0.05)
        assert budget.held > ANSWER / 3, "its reader has not taken it"
        assert work.count == 1, "and so it is not finished"
        await other.send(ask())
        refused = await other.answer()
        assert (refused.status, refused.json()["code"]) == (429, "queue_full")
        assert "retry-after" in refused.headers
        assert len(house.small.engine.ran) == 1, "nothing was computed for it"
        assert await whole(slow) == ANSWER
        await until(lambda: (budget.held, work.count) == (0, 0))
        await other.send(ask())
        assert await whole(other) == ANSWER


async def test_a_reader_that_leaves_gives_its_bytes_back() -> None:
    async with wired() as house:
        budget = house.small.parts.budget
        async with house.connect() as slow:
            await slow.send(ask())
            await until(lambda: budget.held > 0)
        await until(lambda: (budget.held, house.small.parts.work.count) == (0, 0))


async def test_pixels_are_reserved_before_they_are_decoded() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((600, 600, 3), np.uint8)).save(file, "PNG")
    async with running(Settings(max_inflight_bytes=500_000)) as small:
        other = small.parts.budget.open()
        other.grow(1000)
        frames = {name: (name, file.getvalue()) for name in ("previous", "current")}
        refused = await small.http.post("/v1/predict", files=frames)
        assert (refused.status_code, refused.json()["reason"]) == (429, "queue_full")
        assert small.parts.budget.held == 1000
        other.release()
        assert (await small.http.post("/v1/predict", files=frames)).status_code == 200, "alone it is always taken"
        assert small.parts.budget.held == 0


@pytest.mark.parametrize("accept", ["application/json", "multipart/mixed", "application/octet-stream", "image/png"])
async def test_every_form_gives_all_of_it_back(accept: str) -> None:
    async with running() as small:
        steps = "1" if accept == "image/png" else "3"
        raw = {"Content-Type": "application/octet-stream", "X-Frame-Shape": "2,300,300,3", "Accept": accept}
        answer = await small.http.post(f"/v1/predict?steps={steps}", content=bytes(540_000), headers=raw)
        assert answer.status_code == 200
        assert small.parts.budget.held == 0


async def test_pieces_are_let_go_of_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "JOINED", 0)
    holding, held = ByteBudget(10**6).open(), []

    async def send(message: object) -> None:
        held.append(holding.nbytes)

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    response = PiecedResponse([bytes(10), bytes(20), bytes(30)], {}, None, holding)
    await response({"type": "http"}, receive, send)
    assert held == [60, 60, 60, 50]
    assert response.headers["content-length"] == "60"


async def test_a_refused_body_is_not_kept_by_its_error() -> None:
    """An error's traceback holds frames, and they the task that raised it: such a cycle lives until a collection."""
    import gc
    import weakref

    from service.rest.transport.disconnect import while_connected

    class Body:
        pass

    async def connected() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def work(body: Body) -> None:
        raise QueueFull("full")

    gc.disable()
    try:
        body = Body()
        there = weakref.ref(body)
        try:
            await while_connected({}, connected, work(body))
        except QueueFull:
            del body
        await asyncio.sleep(0)  # what the loop itself still holds
        assert there() is None
    finally:
        gc.enable()
