"""One price of a request, whoever asks: the device's own queue, or a front end that was told of its runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.core.bucket import Bucket
from service.core.types import Method, Options, Quality, RouteChoice
from service.engine.scheduling.cost_model import CostModel, Load, MeasuredRun
from service.engine.scheduling.mixture_costs import MixtureCosts, mixture_load
from service.engine.scheduling.pricing import DeviceCosts

SMALL, LARGE = Bucket.of(64, 64), Bucket.of(1088, 1920)
FULL, ONE = (True,) * 9, (True, *(False,) * 8)


def costs() -> DeviceCosts:
    """Of a device whose small size is bound by what a pass costs, and that learnt from both sizes."""
    network = CostModel((1000.0,) * 9, 500.0)
    table = [
        MeasuredRun(bucket, Load.of(bucket, [route], 1, 1), 0.005 + 2e-8 * bucket.pixels * sum(route))
        for bucket in (SMALL, LARGE)
        for route in (FULL, ONE)
    ]
    network.fit(table)
    network.record_route(FULL)
    mixtures = MixtureCosts.of((Method.DMVFN, Method.FLOW))
    flow = LARGE._replace(method=Method.FLOW)
    mixtures.fit([MeasuredRun(flow, mixture_load(flow, 1), 0.2)])
    return DeviceCosts(network, mixtures)


OPTIONS = (
    Options(),
    Options(quality=Quality.ADAPTIVE),
    Options(steps=3, route=RouteChoice.parse("full")),
    Options(route=RouteChoice.parse(blocks=3)),
    Options(route=RouteChoice.parse("100000001")),
)


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize("bucket", [SMALL, LARGE, LARGE._replace(method=Method.FLOW)], ids=Bucket.text)
def test_a_price_is_the_same_after_its_way_as_plain_values(bucket: Bucket, options: Options) -> None:
    here = costs()
    there = DeviceCosts.read(json.loads(json.dumps(here.as_dict())))
    assert there.price(bucket, options) == pytest.approx(here.price(bucket, options))
    assert 0 < here.price(bucket, options).least <= here.price(bucket, options).most


def test_sizes_and_scales_have_prices_of_their_own() -> None:
    """One number for all, seconds a megapixel, refused large frames after many thumbnails."""
    known = costs()
    small, large = known.price(SMALL, Options()).most, known.price(LARGE, Options()).most
    assert small / SMALL.pixels > 5 * large / LARGE.pixels
    quarter = known.price(Bucket.of(1080, 1920, 0.25), Options(scale=0.25)).most
    assert quarter < large / 4


@pytest.mark.parametrize(
    "change",
    [
        {"network": None},
        {"network": {}},
        {"network": {"passes": float("nan")}},
        {"network": {"blocks": [1.0]}},
        {"network": {"blocks": [-1.0] * 9}},
        {"network": {"factors": [[1, 2]]}},
        {"network": {"factors": "none"}},
        {"mixtures": {"flow": []}},
        {"live": 3},
    ],
)
def test_costs_of_another_form_are_refused(change: dict[str, Any]) -> None:
    document = costs().as_dict()
    for name, value in change.items():
        document[name] = {**document[name], **value} if value and isinstance(value, dict) else value
    with pytest.raises(ValueError, match=r"costs|expected|unpack"):
        DeviceCosts.read(document)


def test_methods_of_another_release_are_left_out() -> None:
    document = costs().as_dict()
    document["mixtures"]["oracle"] = {"of": "another form"}
    assert set(DeviceCosts.read(document).mixtures.models) == {Method.FLOW}
