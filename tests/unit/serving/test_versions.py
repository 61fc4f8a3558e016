"""Versions of the weights as callers see them: chosen over REST and gRPC, loaded and unloaded by who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from proto.dmvfn.v1 import dmvfn_pb2 as ours
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2 as pb
from proto.inference import inference_pb2_grpc
from service.app_state import AppState
from service.core.api_keys import read_keys
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.rest.routes import oip
from service.rpc import server as rpc
from service.settings import Settings, SettingsError
from service.telemetry.metrics import Metrics
from tests.unit.engine import tiny
from tests.unit.engine.versions.swapping import MemorySource, swapping
from tests.unit.imaging.pictures import file_of

LOAD, UNLOAD = "/v2/repository/models/dmvfn/load", "/v2/repository/models/dmvfn/unload"
KEYS = (("ann", "key-of-ann"), ("ops", "key-of-ops"))
PIXELS = np.stack([frame.pixels for frame in tiny.frames(3, 32, 48)])


@dataclass
class Versioned:
    """A service with v0 loaded, and v1 beside it on disk."""

    http: httpx.AsyncClient
    v2: Any
    ours: Any
    parts: AppState

    async def predict(self, **params: str) -> httpx.Response:
        kind = "application/octet-stream"
        headers = {"X-Frame-Shape": "2,32,48,3", "Content-Type": kind, "Accept": kind}
        return await self.http.post("/v1/predict", params=params, content=PIXELS.tobytes(), headers=headers)

    async def infer(self, path: str = "/v2/models/dmvfn") -> dict[str, Any]:
        tensor = {"name": "FRAMES", "datatype": "UINT8", "shape": [1, *PIXELS.shape], "data": PIXELS.ravel().tolist()}
        answer = await self.http.post(f"{path}/infer", json={"inputs": [tensor], "outputs": [{"name": "ROUTE"}]})
        return {"status": answer.status_code, **answer.json()}


@asynccontextmanager
async def serving(source: MemorySource | None = None, **changes: Any) -> AsyncIterator[Versioned]:
    settings = Settings(**{"model_control": ("*",), "grpc_port": 0, **changes})
    metrics = Metrics(CollectorRegistry())
    async with swapping(source or MemorySource(v0=0, v1=1), metrics=metrics) as engine:
        codecs = Codecs(FrameLimits.of(settings), 1, metrics)
        state = AppState(settings, engine, codecs, metrics, repository=engine.versions)
        server = await rpc.start(state)
        web = httpx.ASGITransport(build(state, [oip.router(state)]))
        async with (
            httpx.AsyncClient(transport=web, base_url="http://localhost") as http,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            v2: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
            prediction: Any = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
            yield Versioned(http, v2, prediction, state)
        await server.drain(0)
        codecs.close()


async def test_a_version_is_loaded_beside_the_default_and_chosen_by_every_edge() -> None:
    async with serving() as s:
        assert (await s.http.post(LOAD, json={"parameters": {"version": "v1", "share": "0%"}})).status_code == 200
        answers = [await s.predict(), await s.predict(version="v1"), await s.predict(version="v0")]
        assert [answer.headers["x-dmvfn-model"] for answer in answers] == ["v0", "v1", "v0"]
        assert answers[0].content == answers[2].content != answers[1].content
        for path, version in (("", "v0"), ("/versions/v1", "v1"), ("/versions/v0", "v0")):
            answer = await s.infer(f"/v2/models/dmvfn{path}")
            assert (answer["model_version"], answer["parameters"]["weights"]) == (version, version)
        previous, current = (ours.Frame(encoded=file_of(picture, "PNG")) for picture in PIXELS)
        request = ours.PredictRequest(previous=previous, current=current)
        request.options.version = "v1"
        assert (await s.ours.Predict(request)).prediction.model_version == "v1"


async def test_the_documents_tell_what_is_loaded_and_what_could_be() -> None:
    async with serving() as s:
        await s.http.post(LOAD, json={"parameters": {"version": "v1", "share": "25%"}})
        model = (await s.http.get("/v1/model")).json()
        assert [(row["version"], row["default"], row["share"]) for row in model["versions"]] == [
            ("v0", True, 0.0),
            ("v1", False, 0.25),
        ]
        metadata = (await s.http.get("/v2/models/dmvfn/versions/v1")).json()
        assert (metadata["versions"], metadata["properties"]["weights"]) == (["v0", "v1"], "v1")
        assert "model_repository" in (await s.http.get("/v2")).json()["extensions"]
        assert (await s.http.get("/v2/models/dmvfn/versions/v1/ready")).status_code == 200
        missing = await s.http.get("/v2/models/dmvfn/versions/1")
        assert (missing.status_code, missing.json()["detail"]) == (404, "there is no version '1'; there is v0, v1")
        await s.http.post(UNLOAD, json={"parameters": {"version": "v1", "unload_dependents": False}})
        index = (await s.http.post("/v2/repository/index")).json()
        assert [(row["name"], row["version"], row["state"]) for row in index] == [
            (name, version, state)
            for name in ("dmvfn", "dmvfn_image")
            for version, state in (("v0", "READY"), ("v1", "UNAVAILABLE"))
        ]
        told = (await s.v2.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models
        assert [(row.name, row.version) for row in told] == [("dmvfn", "v0"), ("dmvfn_image", "v0")]


async def test_a_shadow_is_shown_and_a_share_takes_its_place() -> None:
    async with serving() as s:
        await s.http.post(LOAD, json={"parameters": {"version": "v1", "shadow": "100%"}})
        (default, shadow) = (await s.http.get("/v1/model")).json()["versions"]
        assert default["shadow"] is None
        nothing = {"share": 1.0, "compared": 0, "agreement_db": None, "time_ratio": None, "reason": ""}
        assert (shadow["share"], shadow["shadow"]) == (0.0, nothing)
        await s.http.post(LOAD, json={"parameters": {"version": "v1", "share": "5%"}})
        (_, shared) = (await s.http.get("/v1/model")).json()["versions"]
        assert (shared["share"], shared["shadow"]) == (0.05, None)


async def test_a_load_over_grpc_without_a_word_swaps_to_the_newest() -> None:
    async with serving() as s:
        await s.v2.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="dmvfn"))
        assert (await s.predict()).headers["x-dmvfn-model"] == "v1"
        gone = await s.predict(version="v0")
        assert (gone.status_code, gone.json()["field"]) == (404, "version")
        unload = pb.RepositoryModelUnloadRequest(model_name="dmvfn")
        unload.parameters["version"].string_param = "v1"
        with pytest.raises(grpc.aio.AioRpcError, match="is the default"):
            await s.v2.RepositoryModelUnload(unload)


@pytest.mark.parametrize(
    ("parameters", "status", "field"),
    [
        ({"version": "v7"}, 404, None),
        ({"version": "../v1"}, 400, "parameters.version"),
        ({"share": "120%"}, 400, "parameters.share"),
        ({"share": "nan"}, 400, "parameters.share"),
        ({"shadow": "101%"}, 400, "parameters.shadow"),
        ({"version": "v0", "shadow": "1%"}, 409, None),
        ({"config": "{}"}, 400, "parameters.config"),
    ],
)
async def test_a_load_that_cannot_be_is_refused(parameters: dict[str, object], status: int, field: str | None) -> None:
    async with serving() as s:
        answer = await s.http.post(LOAD, json={"parameters": parameters})
        assert (answer.status_code, answer.json().get("field")) == (status, field)


async def test_only_who_may_loads_and_nobody_where_it_is_off() -> None:
    body = {"parameters": {"version": "v1", "share": 0}}
    async with serving(api_keys=KEYS, model_control=("ops",)) as s:
        for key, status in (("key-of-ann", 403), ("key-of-ops", 200), ("wrong", 401)):
            answer = await s.http.post(LOAD, json=body, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == status
    async with serving(model_control=()) as s:
        assert (await s.http.post(LOAD, json=body)).status_code == 501
        assert "model_repository" not in (await s.http.get("/v2")).json()["extensions"]
    with pytest.raises(SettingsError, match="DMVFN_MODEL_CONTROL names no key"):
        Settings(model_control=("ops",))


async def test_a_key_with_the_scope_control_loads_and_no_other_gets_it_unnamed() -> None:
    body = {"parameters": {"version": "v1", "share": 0}}
    keys = '[ops]\nkey = "key-of-ops"\nscopes = ["control"]\n[ann]\nkey = "key-of-ann"\n'
    async with serving(model_control=()) as s:
        s.parts.access.use(read_keys(keys))
        seen = []
        for key in ("key-of-ann", "key-of-ops"):
            answer = await s.http.post(LOAD, json=body, headers={"Authorization": f"Bearer {key}"})
            seen.append((answer.status_code, answer.json().get("reason") if answer.content else None))
        extensions = (await s.http.get("/v2", headers={"Authorization": "Bearer key-of-ann"})).json()["extensions"]
    assert seen[0] == (403, "scope_control")
    assert seen[1][0] == 200
    assert "model_repository" in extensions


def test_a_name_of_a_file_of_keys_may_be_named_for_control(tmp_path: Path) -> None:
    """It once stopped the start: only the names of DMVFN_API_KEYS were known."""
    file = tmp_path / "keys.toml"
    file.write_text('[ops]\nkey = "key-of-ops"\n')
    assert Settings(api_keys_file=file, model_control=("ops",)).model_control == ("ops",)


async def test_our_own_page_loads_what_it_may() -> None:
    """Browsers say the origin of every POST, ours too: the reference at /docs sends each operation but these."""
    async with serving() as s:
        answer = await s.http.post(LOAD, headers={"Origin": str(s.http.base_url).rstrip("/")})
        assert answer.status_code == 200, answer.text


async def test_a_page_of_another_origin_loads_nothing() -> None:
    async with serving() as s:
        answer = await s.http.post(LOAD, headers={"Origin": "http://elsewhere.example"})
        assert answer.status_code == 401
        assert (await s.predict()).headers["x-dmvfn-model"] == "v0"
