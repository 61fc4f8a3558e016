"""The real thing in small: middleware, codecs, batcher and a tiny network, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.inference import predict as inference
from service.app_state import AppState
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.imaging.codec import FrameLimits, decode
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.imaging.pictures import Pixels, file_of, smooth

SETTINGS = Settings(warmup_sizes=((32, 48),), threads=1, device="cpu")


@pytest.fixture(scope="module")
def network() -> DMVFN:
    torch.manual_seed(0)
    return DMVFN(ModelConfig.tiny()).eval()


@pytest.fixture
async def http(network: DMVFN) -> AsyncIterator[httpx.AsyncClient]:
    metrics = Metrics(CollectorRegistry())
    engine = Batcher(lambda: Predictor(network, device="cpu", threads=1), SETTINGS, metrics)
    codecs = Codecs(FrameLimits.of(SETTINGS), 2, metrics)
    await engine.start()
    transport = httpx.ASGITransport(build(AppState(SETTINGS, engine, codecs, metrics)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    await engine.close()
    codecs.close()


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


async def predict(http: httpx.AsyncClient, previous: Pixels, current: Pixels, route: str) -> httpx.Response:
    files = {"previous": file_of(previous, "PNG"), "current": file_of(current, "PNG")}
    return await http.post("/v1/predict", files=files, data={"route": route})


async def test_the_answer_is_what_the_network_predicts(http: httpx.AsyncClient, network: DMVFN) -> None:
    previous, current = smooth(40, 56), np.roll(smooth(40, 56), 2, axis=1)
    answer = await predict(http, previous, current, "110000001")
    route = torch.tensor([[bit == "1" for bit in "110000001"]])
    with torch.inference_mode():
        wanted = inference.predict(network, tensor(previous), tensor(current), route).frame[0]
    got = decode(answer.content, FrameLimits(), "answer").pixels
    assert np.abs(got.astype(float) - wanted.permute(1, 2, 0).numpy() * 255).max() <= 1
    assert answer.headers["x-dmvfn-route"] == "110000001"


async def test_many_sizes_at_once_are_all_answered(http: httpx.AsyncClient) -> None:
    sizes = [(32, 48), (40, 56), (64, 32)] * 10
    answers = await asyncio.gather(*(predict(http, smooth(*size), smooth(*size), "full") for size in sizes))
    assert [answer.status_code for answer in answers] == [200] * 30
    assert [decode(a.content, FrameLimits(), "answer").pixels.shape[:2] for a in answers] == sizes


async def test_the_batcher_shows_its_queues(http: httpx.AsyncClient) -> None:
    assert (await http.get("/debug/batcher")).status_code == 200
