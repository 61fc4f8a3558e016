"""What a person reads who started the service: which weights, and what predicts where nobody names a method."""

from __future__ import annotations

import pytest

from model import checkpoint
from service.core.errors import Unavailable
from service.core.interfaces import ServedModel
from service.core.types import Method
from service.engine.mixture import Mixtures
from service.engine.predictor import Predictor
from service.greeting import greeting
from service.settings import Settings
from tests.unit.engine.tiny import network

SCORES = {"psnr_t1": 28.6, "psnr_t1_repeat": 24.5}


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("::", "localhost"), ("10.0.0.7", "10.0.0.7")])
def test_the_address_can_be_followed(host: str, shown: str) -> None:
    class Starting:
        def model(self) -> ServedModel:
            raise Unavailable("no worker yet")

    settings = Settings(http_host=host, grpc_host=host)
    first = greeting(settings, 8000, 8001, Starting()).splitlines()[0]  # type: ignore[arg-type]
    assert first.endswith(f" is ready: http://{shown}:8000, gRPC on {shown}:8001")


class Described:
    """As much of an engine as a greeting asks."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served

    def model(self) -> ServedModel:
        return self._served


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (Method.FLOW, "  where a request names no method, flow predicts: 29.23 dB on the same video"),
        (Method.DMVFN, "  where a request names no method, dmvfn predicts"),
    ],
)
def test_the_greeting_says_what_predicts_by_default_and_what_that_is_worth(method: Method, line: str) -> None:
    net = network()
    net.metadata = checkpoint.Metadata(version="tiny", scores=SCORES, config=net.config, method_on_cpu=method.value)
    served = Predictor(net, device="cpu", threads=1, mixtures=Mixtures.load(net)).info
    lines = greeting(Settings(), 8000, None, Described(served)).splitlines()  # type: ignore[arg-type]
    assert lines[1].endswith("28.60 dB on held-out video, where repeating the last frame gives 24.50 dB")
    assert lines[2:] == [line]
