"""Decoding and encoding beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.core.errors import InvalidFrame, QueueFull, TooLarge
from service.core.types import Frame
from service.imaging.codec import FrameLimits, ImageFormat
from service.imaging.codec_pool import INLINE_COPY, Codecs
from service.telemetry.metrics import Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def codecs(registry: CollectorRegistry) -> AsyncIterator[Codecs]:
    made = Codecs(FrameLimits(max_side=512), 2, Metrics(registry))
    yield made
    made.close()


def count(registry: CollectorRegistry, stage: str) -> float | None:
    return registry.get_sample_value("dmvfn_stage_duration_seconds_count", {"stage": stage})


def picture(height: int = 32, width: int = 48) -> Frame:
    return Frame(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


async def test_what_was_encoded_is_decoded(codecs: Codecs, registry: CollectorRegistry) -> None:
    data = await codecs.encode(picture(), ImageFormat.PNG)
    assert np.array_equal((await codecs.decode(data, "previous")).pixels, picture().pixels)
    assert (count(registry, "encode"), count(registry, "decode")) == (1, 1)


async def test_many_at_once_all_come_back(codecs: Codecs) -> None:
    data = await codecs.encode(picture(), ImageFormat.PNG)
    frames = await asyncio.gather(*(codecs.decode(data, "previous") for _ in range(40)))
    assert all(np.array_equal(frame.pixels, picture().pixels) for frame in frames)


async def test_a_refusal_passes_through_untimed(codecs: Codecs, registry: CollectorRegistry) -> None:
    with pytest.raises(InvalidFrame):
        await codecs.decode(b"", "previous")
    assert not count(registry, "decode")


@pytest.mark.parametrize("stride", [None, 150])
async def test_raw_rows_become_a_frame(codecs: Codecs, stride: int | None) -> None:
    rows = np.zeros((400, stride or 144), np.uint8)
    rows[:, :144] = np.tile(picture(1, 48).pixels.reshape(1, 144), (400, 1))
    frame = await codecs.raw(rows.tobytes(), 400, 48, "current", stride)
    assert np.array_equal(frame.pixels, np.tile(picture(1, 48).pixels, (400, 1, 1)))


async def test_limits_hold_for_raw_frames(codecs: Codecs) -> None:
    with pytest.raises(TooLarge):
        await codecs.raw(b"", 513, 513, "current")


async def test_work_whose_caller_left_before_it_began_is_not_done(codecs: Codecs, registry: CollectorRegistry) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(nbytes: int) -> None:
        begun.set()
        go_on.wait(60)

    data = await codecs.encode(picture(), ImageFormat.PNG)
    holding = [codecs.decode(data, "previous", hold) for _ in range(2)]  # both threads
    waiting = codecs.decode(data, "current", lambda nbytes: pytest.fail("it was done"))
    assert await asyncio.to_thread(begun.wait, 60)
    waiting.cancel()
    go_on.set()
    await asyncio.gather(*holding)
    await codecs.decode(data, "previous")
    assert count(registry, "decode") == 3


async def test_what_is_due_first_is_done_first_whenever_it_came() -> None:
    codecs = Codecs(FrameLimits(), 1, Metrics(CollectorRegistry()), lambda: 100.0)
    go_on, order = threading.Event(), list[str]()
    data = await codecs.encode(picture(), ImageFormat.PNG)

    def held(nbytes: int) -> None:
        assert go_on.wait(60)

    blocking = codecs.decode(data, "previous", held)

    def begun(name: str, deadline: float | None) -> asyncio.Future[Frame]:
        return codecs.decode(data, name, lambda nbytes: order.append(name), deadline)

    later = [begun("none", None), begun("a minute", 160.0), begun("soon", 100.2), begun("soon, too", 100.2)]
    later.append(begun("at once", 100.003))
    go_on.set()
    await asyncio.gather(blocking, *later)
    codecs.close()
    assert order == ["at once", "soon", "soon, too", "none", "a minute"]


async def test_closing_waits_for_what_has_begun_and_drops_the_rest() -> None:
    codecs = Codecs(FrameLimits(), 1, Metrics(CollectorRegistry()))
    begun, go_on = threading.Event(), threading.Event()

    def hold(nbytes: int) -> None:
        begun.set()
        go_on.wait(60)

    data = await codecs.encode(picture(), ImageFormat.PNG)
    running, waiting = codecs.decode(data, "previous", hold), codecs.decode(data, "current")
    assert await asyncio.to_thread(begun.wait, 60)
    closing = asyncio.create_task(asyncio.to_thread(codecs.close))
    async with asyncio.timeout(60):
        while not codecs._pool._shutdown:
            await asyncio.sleep(0.001)
    go_on.set()
    await closing
    assert np.array_equal((await running).pixels, picture().pixels)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError):
        codecs.decode(data, "previous")


async def test_what_could_not_be_decoded_is_not_kept_by_its_error(codecs: Codecs) -> None:
    """An error's traceback holds frames, and they what they worked on: such a cycle lives until a collection."""

    def reserve(nbytes: int) -> None:
        raise QueueFull("full")

    data, there = await codecs.encode(picture(), ImageFormat.PNG), weakref.ref(reserve)
    gc.disable()
    try:
        future = codecs.decode(data, "previous", reserve)
        del reserve
        with contextlib.suppress(QueueFull):
            await future
        del future
        async with asyncio.timeout(60):  # what the loop and the thread themselves still hold
            while there() is not None:
                await asyncio.sleep(0.001)
    finally:
        gc.enable()


def test_large_raw_pixels_need_a_thread_only_where_they_are_copied() -> None:
    height, width = 600, 800
    copied = Frame(np.zeros((height, width, 3), np.uint8))
    sent = Frame(np.frombuffer(bytes(3 * height * width), np.uint8).reshape(height, width, 3))
    assert copied.pixels.nbytes > INLINE_COPY
    assert not Codecs.needs_no_thread(copied, ImageFormat.RAW)
    assert Codecs.needs_no_thread(sent, ImageFormat.RAW)
    assert not Codecs.needs_no_thread(sent, ImageFormat.PNG)
