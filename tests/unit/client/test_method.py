"""`method` through the client library, clips and the model's description: one frame, and what it was made of."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from dmvfn_client import AsyncClient, Client, GrpcClient, InvalidInput, NotFound, Prediction

from model.mixing import predictor as mixing
from model.mixing import weights
from service.imaging.codec import FrameLimits
from service.serving.video.clip import Timed
from service.serving.video.y4m import Y4mSource
from tests.unit.client.serving import Serving
from tests.unit.engine import tiny
from tests.unit.serving.video.clips import moving, y4m

PREVIOUS, CURRENT = (frame.pixels for frame in tiny.frames(2, 40, 56))
FLOW: dict[str, Any] = {"method": "flow", "maps": True}


def expected() -> np.ndarray[Any, Any]:
    return mixing.rounded(mixing.mix(PREVIOUS, CURRENT, None, *weights.load()).frame)


def check(answer: Prediction, trust: float) -> None:
    """A flow's answer; `trust`: how exactly its floats came."""
    assert np.array_equal(answer.pixels, expected())
    assert (answer.method, answer.route) == ("flow", "000000000")
    assert sum(answer.shares.values()) == pytest.approx(1, abs=1e-3)
    assert {"motion", "mixing"} <= answer.timings_ms.keys()
    (frame,) = answer.frames
    assert frame.mask is None
    assert frame.flow is not None
    assert frame.confidence is not None
    assert np.allclose(frame.flow[..., :2], 2 * frame.flow[..., 2:], atol=trust)
    assert (frame.confidence.min() >= 0, frame.confidence.max() <= 1) == (True, True)


async def test_rest_and_grpc_answer_by_flow_with_its_motion_and_confidence(running: Serving) -> None:
    with Client(running.url) as rest, GrpcClient(running.grpc) as rpc:
        check(rest.predict(PREVIOUS, CURRENT, **FLOW), 1e-2)
        check(rpc.predict(PREVIOUS, CURRENT, **FLOW), 1e-6)
        by_network = rpc.predict(PREVIOUS, CURRENT)
        job = rest.result(rest.submit([PREVIOUS, CURRENT], method="flow"))
        answers = list(rpc.stream([PREVIOUS, CURRENT], scene_cuts=False, method="flow"))
    async with AsyncClient(running.url) as rest:
        assert np.array_equal((await rest.predict(PREVIOUS, CURRENT, method="flow")).pixels, expected())
    assert (by_network.method, dict(by_network.shares)) == ("dmvfn", {})
    assert np.array_equal(job.pixels, expected())
    assert answers[-1].prediction is not None
    assert np.array_equal(answers[-1].prediction.pixels, expected())


def test_what_only_the_network_has_is_refused_by_name(running: Serving) -> None:
    words = "blocks means nothing with method flow"
    with Client(running.url) as rest, GrpcClient(running.grpc) as rpc:
        for client in (rest, rpc):
            with pytest.raises(InvalidInput, match=words) as refused:
                client.predict(PREVIOUS, CURRENT, method="flow", blocks=2)
            assert refused.value.field in ("blocks", "options.blocks")


def test_the_model_says_what_it_can_predict_by(running: Serving) -> None:
    with Client(running.url) as rest:
        model = rest.model()
    assert (model["default_method"], model["options"]["method"]) == ("dmvfn", ["dmvfn", "flow"])
    properties = httpx.get(f"{running.url}/v2/models/dmvfn").json()["properties"]
    assert (properties["methods"], properties["default_method"]) == ("dmvfn,flow", "dmvfn")


def test_headers_and_parts_tell_the_method_its_shares_and_times(running: Serving) -> None:
    pair = np.stack([PREVIOUS, CURRENT]).tobytes()
    shape = {"X-Frame-Shape": "2,40,56,3", "Content-Type": "application/octet-stream"}
    answer = httpx.post(f"{running.url}/v1/predict?method=flow", content=pair, headers=shape)
    assert answer.headers["x-dmvfn-method"] == "flow"
    shares = dict(word.split("=") for word in answer.headers["x-dmvfn-shares"].split(","))
    assert sum(map(float, shares.values())) == pytest.approx(1, abs=0.01)
    assert {"motion", "mixing"} <= {word.split(";")[0].strip() for word in answer.headers["server-timing"].split(",")}
    mixed = httpx.post(f"{running.url}/v1/predict?method=flow&maps=float32", content=pair, headers=shape)
    names = [part.split(b'"')[1] for part in mixed.content.split(b"name=")[1::2]]
    assert names == [b"frame-1", b"flow-1", b"confidence-1"]
    network = httpx.post(f"{running.url}/v1/predict", content=pair, headers=shape)
    assert network.headers["x-dmvfn-method"] == "dmvfn"
    assert "x-dmvfn-shares" not in network.headers
    assert "motion" not in network.headers["server-timing"]


def test_a_clips_frames_can_be_predicted_by_flow(running: Serving) -> None:
    frames = moving(6)
    url, headers = f"{running.url}/v1/video", {"Accept": "video/x-yuv4mpeg2"}
    clips = [
        httpx.post(f"{url}?every=2&{query}", content=y4m(frames), headers=headers, timeout=60)
        for query in ("method=flow", "method=dmvfn", "method=flow&route=full")
    ]
    assert [clip.status_code for clip in clips] == [200, 200, 400]
    by_flow, by_network = (
        [
            item.frame.pixels
            for item in Y4mSource(io.BytesIO(clip.content), limits=FrameLimits())
            if isinstance(item, Timed)
        ]
        for clip in clips[:2]
    )
    assert len(by_flow) == len(by_network)
    assert any(not np.array_equal(one, other) for one, other in zip(by_flow, by_network, strict=True))


def test_a_version_reaches_the_service_by_every_way(running: Serving, tmp_path: Path) -> None:
    clip = tmp_path / "in.y4m"
    clip.write_bytes(y4m(moving(8)))
    with Client(running.url) as rest, GrpcClient(running.grpc) as rpc:
        for ask in (
            lambda: rest.predict(PREVIOUS, CURRENT, version="v9"),
            lambda: rpc.predict(PREVIOUS, CURRENT, version="v9"),
            lambda: rest.predict_many([(PREVIOUS, CURRENT)], version="v9"),
            lambda: rest.predict_video(clip, tmp_path / "out.mp4", every=2, version="v9"),
            lambda: rest.result(rest.submit([PREVIOUS, CURRENT], version="v9")),
        ):
            with pytest.raises(NotFound, match="v9"):
                ask()
        answers = list(rpc.stream([PREVIOUS, CURRENT], scene_cuts=False, version="v9"))
    assert isinstance(answers[-1].error, NotFound)
