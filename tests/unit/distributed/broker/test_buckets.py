"""Buckets in Redis: what one device may run together lies in one stream."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from service.core.bucket import Bucket
from service.core.types import Options, PredictRequest
from service.distributed.broker import buckets
from service.telemetry.metrics import size_class
from tests.unit.distributed.conftest import Bench, until
from tests.unit.distributed.engines import Adder, alike, answer, frame
from tests.unit.distributed.frontend.test_engine import request

K_STREAM = "{q}:s:0:"


def of_size(number: int, side: int, scale: float) -> PredictRequest:
    frames = frame(number, side, side), frame(1, side, side)
    return dataclasses.replace(request(number), previous=frames[0], current=frames[1], options=Options(scale=scale))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_a_bucket_has_one_name_and_the_name_its_metrics_label(scale: float) -> None:
    sides = range(round(48 / scale) + 1, round(64 / scale) + 1)
    (bucket,) = {Bucket.of(side, 100, scale) for side in sides}
    assert {buckets.name(Bucket.of(side, 100, scale)) for side in sides} == {buckets.name(bucket)}
    assert buckets.label_of(K_STREAM + buckets.name(bucket)) == buckets.label(bucket)


def test_the_names_of_full_scale_are_those_of_every_release() -> None:
    assert buckets.name(Bucket.of(720, 1270)) == "720x1280@1"
    assert buckets.label_of(K_STREAM + "720x1280@1") == size_class(720, 1280)


@pytest.mark.parametrize("scale", [0.5, 0.25])
async def test_sizes_of_one_device_bucket_wait_in_one_stream(bench: Bench, scale: float) -> None:
    async with bench.work(Adder()):
        pass
    requests = [of_size(number, side, scale) for number, side in enumerate((33, 48, 64))]
    calls = asyncio.gather(*map(bench.engine.predict, requests))

    async def queued() -> bool:
        return bool(await bench.front.client.hget(bench.keys.load, "items") == b"3")

    await until(queued)
    streams = [name.decode() for name in await bench.front.client.smembers(bench.keys.buckets)]
    assert streams == [bench.keys.stream(0, f"64x64@{scale}")]
    async with bench.work(Adder()):
        answers = await calls
    assert all(alike(result, answer(asked)) for result, asked in zip(answers, requests, strict=True))
