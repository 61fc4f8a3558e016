"""What callers invent makes no new time series: the number of labels is bounded whatever they send."""

from __future__ import annotations

import contextlib
import random
import re

import grpc
import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.system.e2e.joined import Joined, joined
from tests.unit.imaging.pictures import file_of, noise

#: Of histograms one line a bucket counts too.
Series = set[tuple[str, tuple[tuple[str, str], ...]]]


async def series(http: httpx.AsyncClient) -> Series:
    """Every time series that a scrape shows."""
    text = (await http.get("/metrics")).text
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def invent(service: Joined, http: httpx.AsyncClient, seed: int) -> None:
    """One of everything a caller may choose, chosen at random."""
    dice = random.Random(seed)
    word = f"w{dice.randrange(10**9)}"
    # Below one size class, so that only the sizes differ.
    picture = file_of(noise(dice.randrange(16, 60), dice.randrange(30, 60), seed), "PNG")
    pair = {"previous": picture, "current": picture}
    bits = "".join(dice.choice("01") for _ in range(8)) + "1"
    await http.post(f"/v1/predict?route={bits}", files=pair, headers={"X-Request-Id": word, "User-Agent": word})
    await http.post("/v1/predict", files={**pair, word: b"x"})
    await http.post(f"/v1/predict?{word}=1", files=pair)
    await http.get(f"/{word}")
    await http.get(f"/problems/{word}")
    await http.request(word.upper(), "/v1/model")
    await http.post(f"/v2/models/{word}/infer", json={"inputs": [{"name": word}]})
    await http.post(f"/v2/models/dmvfn/versions/{dice.randrange(99)}/infer", json={})
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        for method in (f"/{word}/{word}", "/dmvfn.v1.PredictionService/Predict"):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await channel.unary_unary(method)(word.encode(), metadata=(("x-request-id", word),), timeout=60)


async def test_callers_cannot_make_time_series() -> None:
    async with joined() as service, httpx.AsyncClient(base_url=service.http, timeout=60) as http:
        for seed in range(3):
            await invent(service, http, seed)
        before = await series(http)
        for seed in range(100, 110):
            await invent(service, http, seed)
        after = await series(http)
    new = {name for name in after - before if "_bucket" not in name[0]}
    print(f"{len(before)} series, {len(new)} more after 10 rounds of invented words, sizes and routes")
    # A block, or a second run of a size class, that chance had not brought up before is no label a caller invented.
    by_chance = ("dmvfn_block_executions_total", "dmvfn_model_flops_total", "dmvfn_cost_model_error_ratio")
    assert {name for name in new if not name[0].startswith(by_chance)} == set()
    assert [value for _, labels in after for _, value in labels if re.search(r"w\d{4}", value)] == []
