"""Decoding and encoding beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.core.errors import InvalidFrame, TooLarge
from service.core.types import Frame
from service.imaging.codec import FrameLimits, ImageFormat
from service.imaging.codec_pool import Codecs
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
