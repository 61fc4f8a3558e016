"""The Open Inference Protocol over HTTP: its paths, bodies and errors."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image

from service.app_state import AppState
from service.core.errors import QueueFull, TooLarge
from service.core.interfaces import Readiness
from service.rest.app import build
from service.rest.formats import oip_messages
from service.rest.formats.json_body import PIECE
from service.rest.routes import oip
from service.telemetry.tracing import Tracer
from tests.measured import UpperBounds
from tests.unit.memory import peak_mib
from tests.unit.rpc.small import SmallEngine, extrapolated, parts, picture

H, W = 16, 24
LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Edge:
    engine: SmallEngine
    parts: AppState
    http: httpx.AsyncClient


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    engine = SmallEngine()
    joined = parts(engine, max_body_bytes=2**20)
    transport = httpx.ASGITransport(build(joined, [oip.router(joined)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield Edge(engine, joined, http)
    joined.codecs.close()


def _pixels(batch: int = 1) -> np.ndarray:
    return np.stack([[picture(2 * n, H, W), picture(2 * n + 1, H, W)] for n in range(batch)])


def _predicted(batch: int = 1) -> bytes:
    return b"".join(extrapolated(older, newer, 1)[0].tobytes() for older, newer in _pixels(batch))


def _body(batch: int = 1, **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request with its tensor behind the JSON."""
    data = _pixels(batch).tobytes()
    tensor = {
        "name": "FRAMES",
        "datatype": "UINT8",
        "shape": [batch, 2, H, W, 3],
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + data, {LENGTH: str(len(head))}


def _plain(**more: Any) -> dict[str, Any]:
    tensor = {"name": "FRAMES", "datatype": "UINT8", "shape": [1, 2, H, W, 3], "data": _pixels().ravel().tolist()}
    return {"inputs": [tensor], **more}


async def test_bytes_in_and_bytes_out(edge: Edge) -> None:
    body, headers = _body(2, id="a", parameters={"binary_data_output": True})
    answer = await edge.http.post("/v2/models/dmvfn/infer", content=body, headers=headers)
    head = json.loads(answer.content[: int(answer.headers[LENGTH])])
    tail = answer.content[int(answer.headers[LENGTH]) :]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert (head["model_name"], head["model_version"], head["id"]) == ("dmvfn", "1", "a")
    assert head["parameters"] == {"weights": "small-1"}
    assert [output["parameters"]["binary_data_size"] for output in head["outputs"]] == [2 * H * W * 3, 18, 16]
    assert tail[: 2 * H * W * 3] == _predicted(2)


async def test_a_request_is_traced_with_the_stages_of_its_slowest_item() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    joined = parts(SmallEngine())
    transport = httpx.ASGITransport(build(joined, [oip.router(joined)], tracer=tracer))
    body, headers = _body(2)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.post("/v2/models/dmvfn/infer", content=body, headers=headers)).status_code == 200
    joined.codecs.close()
    tracer.close()
    names = [span.name for span in exporter.get_finished_spans()]
    assert names == ["POST /v2/models/{model}/infer", "decode", "queue", "route", "blocks", "encode"]


async def test_json_in_and_json_out_without_a_content_type(edge: Edge) -> None:
    content = json.dumps(_plain(outputs=[{"name": "ROUTE"}, {"name": "PRED"}], id=""))
    answer = await edge.http.post("/v2/models/dmvfn/versions/1/infer", content=content)
    assert answer.headers["content-type"] == "application/json"
    route, pred = answer.json()["outputs"]
    assert route == {"name": "ROUTE", "datatype": "UINT8", "shape": [1, 1, 9], "data": [1] * 9}
    assert (pred["shape"], bytes(pred["data"])) == ([1, 1, H, W, 3], _predicted())
    assert "id" not in answer.json()  # nobody asked by one


async def test_each_output_says_for_itself_whether_it_is_bytes(edge: Edge) -> None:
    outputs = [{"name": "PRED", "parameters": {"binary_data": True}}, {"name": "FLOPS"}]
    body, headers = _body(outputs=outputs)
    answer = await edge.http.post("/v2/models/dmvfn/infer", content=body, headers=headers)
    size = int(answer.headers[LENGTH])
    pred, flops = json.loads(answer.content[:size])["outputs"]
    assert ("data" in pred, flops["data"], answer.content[size:]) == (False, [1000.0], _predicted())


async def test_whether_all_is_bytes_is_true_or_false(edge: Edge) -> None:
    for value in ("yes", 1, "True"):
        body, headers = _body(parameters={"binary_data_output": value})
        answer = await edge.http.post("/v2/models/dmvfn/infer", content=body, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (400, "parameters.binary_data_output")


@pytest.mark.parametrize(("value", "is_binary"), [(True, True), ("true", True), (False, False), ("false", False)])
async def test_a_parameter_that_is_true_or_false_may_be_a_string(edge: Edge, value: object, is_binary: bool) -> None:
    """As every parameter may: docs/api.md."""
    for change in ({"parameters": {"binary_data_output": value}}, {"outputs": [_flagged("PRED", value)]}):
        answer = await edge.http.post("/v2/models/dmvfn/infer", json=_plain(**change))
        assert (answer.status_code, LENGTH in answer.headers) == (200, is_binary)


async def test_pictures_of_two_sizes_are_told_by_the_inputs_name(edge: Edge) -> None:
    inputs = []
    for name, width in (("FRAME0", W), ("FRAME1", W + 16)):
        file = io.BytesIO()
        Image.new("RGB", (width, H)).save(file, "PNG")
        data = [base64.b64encode(file.getvalue()).decode()]
        inputs.append({"name": name, "datatype": "BYTES", "shape": [1, 1], "data": data})
    answer = await edge.http.post("/v2/models/dmvfn_image/infer", json={"inputs": inputs})
    assert (answer.status_code, answer.json()["field"]) == (422, "inputs.FRAME1")


@pytest.mark.parametrize(("name", "coding"), [("gzip", "gzip"), ("deflate", "deflate"), ("X-Gzip", "gzip")])
async def test_compressed_bodies_are_read_and_answered(edge: Edge, name: str, coding: str) -> None:
    body, headers = _body(parameters={"binary_data_output": True})
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    answer = await edge.http.post(
        "/v2/models/dmvfn/infer",
        content=packed,
        headers={**headers, "Content-Encoding": name, "Accept-Encoding": name},
    )
    assert answer.headers["content-encoding"] == coding  # httpx has inflated the content
    assert answer.content[int(answer.headers[LENGTH]) :].startswith(_predicted())


async def test_a_client_that_names_no_single_coding_gets_none(edge: Edge) -> None:
    body, headers = _body()
    answer = await edge.http.post(
        "/v2/models/dmvfn/infer", content=body, headers={**headers, "Accept-Encoding": "gzip, deflate, br"}
    )
    assert "content-encoding" not in answer.headers


async def test_images_come_and_go_as_base64_in_json(edge: Edge) -> None:
    files = []
    for n in range(2):
        file = io.BytesIO()
        Image.fromarray(picture(n, H, W)).save(file, "PNG")
        files.append(base64.b64encode(file.getvalue()).decode())
    inputs = [
        {"name": f"FRAME{n}", "datatype": "BYTES", "shape": [1, 1], "data": [text]} for n, text in enumerate(files)
    ]
    answer = await edge.http.post("/v2/models/dmvfn_image/infer", json={"inputs": inputs})
    [text] = answer.json()["outputs"][0]["data"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert pixels.tobytes() == _predicted()


@pytest.mark.parametrize("ready", ["true", 1, [True]])
async def test_an_index_is_not_narrowed_by_what_says_neither_yes_nor_no(edge: Edge, ready: object) -> None:
    answer = await edge.http.post("/v2/repository/index", json={"ready": ready})
    assert (answer.status_code, answer.json()["field"]) == (400, "ready")
    for known in (True, False, None):
        assert (await edge.http.post("/v2/repository/index", json={"ready": known})).status_code == 200


async def test_numbers_in_place_of_files_are_told(edge: Edge) -> None:
    """They counted as no elements at all, where the shape says one."""
    inputs = [{"name": name, "datatype": "BYTES", "shape": [1, 1], "data": [137, 80]} for name in ("FRAME0", "FRAME1")]
    answer = await edge.http.post("/v2/models/dmvfn_image/infer", json={"inputs": inputs})
    assert (answer.status_code, answer.json()["field"]) == (400, "inputs.FRAME0")
    assert answer.json()["detail"] == "FRAME0 holds numbers; BYTES are base64 texts"


def _flagged(name: str, value: object) -> dict[str, Any]:
    return {"name": name, "parameters": {"binary_data": value}}


def _spoiled(change: dict[str, Any], where: str = "top") -> dict[str, Any]:
    body = _plain()
    if where == "top":
        body.update(change)
    else:
        body["inputs"][0].update(change)
    return body


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ([], 400, "body"),
        ({}, 400, "inputs"),
        (_spoiled({"inputs": []}), 400, "inputs"),
        (_spoiled({"inputs": [1]}), 400, "inputs[0]"),
        (_spoiled({"id": 5}), 400, "id"),
        (_spoiled({"parameters": []}), 400, "parameters"),
        (_spoiled({"outputs": [{}]}), 400, "outputs[0]"),
        (_spoiled({"outputs": [{"name": "X"}]}), 400, "outputs.X"),
        (_spoiled({"outputs": [_flagged("PRED", 1)]}), 400, "outputs[0].parameters.binary_data"),
        (_spoiled({"outputs": [{"name": "PRED", "parameters": {"classification": 2}}]}), 501, "outputs[0]"),
        (_spoiled({"name": 1}, "input"), 400, "inputs[0]"),
        (_spoiled({"shape": [1.5]}, "input"), 400, "inputs[0].shape"),
        (_spoiled({"shape": [True]}, "input"), 400, "inputs[0].shape"),
        (_spoiled({"shape": [1, 2, 10**30, 10**30, 3]}, "input"), 400, "inputs.FRAMES"),
        (_spoiled({"shape": [99, 2, H, W, 3]}, "input"), 413, "inputs.FRAMES"),
        (_spoiled({"data": "text"}, "input"), 400, "inputs[0].data"),
        (_spoiled({"data": [1, 2]}, "input"), 400, "inputs.FRAMES"),
        (_spoiled({"parameters": {"binary_data_size": 4}}, "input"), 400, "inputs[0].data"),
        (_spoiled({"parameters": {"shared_memory_region": "a"}}, "input"), 501, "inputs[0]"),
        (_spoiled({"parameters": {"steps": 99}}), 400, "parameters.steps"),
    ],
)
async def test_what_is_wrong_is_a_problem_that_names_its_member(edge: Edge, body: Any, status: int, field: str) -> None:
    answer = await edge.http.post("/v2/models/dmvfn/infer", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (status, field)
    # KServe's client reads `error` from no other media type.
    assert answer.headers["content-type"] == "application/json"
    assert problem["error"] == problem["detail"] != ""


def test_more_json_than_fits_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        oip_messages.read(b"[" + b"0," * (oip_messages.MAX_JSON // 2) + b"0]", None, "dmvfn", "")


@pytest.mark.parametrize("length", ["-1", "x", "0", "999999999", "٣"])
async def test_a_json_length_outside_the_body_is_refused(edge: Edge, length: str) -> None:
    body, _ = _body()
    answer = await edge.http.post("/v2/models/dmvfn/infer", content=body, headers=[(LENGTH.encode(), length.encode())])
    assert answer.json()["field"] == LENGTH


async def test_tensors_that_do_not_fill_the_body_are_refused(edge: Edge) -> None:
    body, headers = _body()
    for content in (body + b"x", body[:-1]):
        answer = await edge.http.post("/v2/models/dmvfn/infer", content=content, headers=headers)
        assert answer.status_code == 400


@pytest.mark.parametrize(
    ("coding", "content", "status"),
    [
        ("gzip", gzip.compress(b"\0" * 2**24), 413),
        ("deflate", zlib.compress(b"\0" * 2**24), 413),
        ("gzip", b"no gzip", 400),
        ("gzip", gzip.compress(b"{}")[:-1], 400),
        ("gzip", gzip.compress(b"{}") * 2, 400),
        ("br", b"", 415),
    ],
    ids=["gzip too large", "deflate too large", "no gzip", "gzip cut off", "gzip twice", "unknown coding"],
)
async def test_bodies_that_do_not_inflate_within_bounds_are_refused(
    edge: Edge, coding: str, content: bytes, status: int
) -> None:
    answer = await edge.http.post("/v2/models/dmvfn/infer", content=content, headers={"Content-Encoding": coding})
    assert answer.status_code == status


@pytest.mark.measured
async def test_a_body_that_inflates_to_much_is_counted_while_it_does() -> None:
    """A hundred kilobytes that become a hundred megabytes: refused when the room is gone, not when all is there."""
    joined = parts(SmallEngine(), max_body_bytes=2**27, max_inflight_bytes=2**25)
    transport = httpx.ASGITransport(build(joined, [oip.router(joined)]))
    packed = gzip.compress(bytes(100 * 2**20))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        bounds = UpperBounds(grown_mib=80)  # 200 before it was counted piece by piece
        with joined.budget.open() as other:
            other.grow(2**20)
            while bounds.unmet():
                before = peak_mib(reset=True)
                headers = {"Content-Encoding": "gzip"}
                answer = await http.post("/v2/models/dmvfn/infer", content=packed, headers=headers)
                bounds.measured(grown_mib=peak_mib() - before)
                assert joined.budget.held == 2**20
                assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    joined.codecs.close()


@pytest.mark.parametrize("length", [0, 1, PIECE, 5 * PIECE + 7])
@pytest.mark.parametrize("noise", [False, True])
def test_what_is_inflated_in_pieces_is_what_was_compressed(length: int, noise: bool) -> None:
    content = np.random.default_rng(1).bytes(length) if noise else bytes(length)
    pieces: list[int] = []
    assert oip_messages.decompress(gzip.compress(content), "gzip", length, pieces.append) == content
    assert (sum(pieces), max(pieces, default=0) <= PIECE) == (length, True)
    if length:
        with pytest.raises(TooLarge):
            oip_messages.decompress(gzip.compress(content), "gzip", length - 1, pieces.append)


async def test_an_engines_refusal_keeps_its_status_and_says_when_to_return(edge: Edge) -> None:
    edge.engine.fails(QueueFull("full", retry_after=0.25))
    answer = await edge.http.post("/v2/models/dmvfn/infer", json=_plain())
    assert (answer.status_code, answer.json()["retry_after_ms"], answer.json()["error"]) == (429, 250, "full")


async def test_the_paths_that_describe(edge: Edge) -> None:
    async def get(path: str) -> Any:
        answer = await edge.http.get(path)
        assert answer.status_code == 200, path
        return answer.json()

    assert (await get("/v2"))["name"] == "dmvfn"
    for name in ("dmvfn", "dmvfn_image"):
        for base in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
            metadata, config = await get(base), await get(base + "/config")
            assert (metadata["name"], config["name"]) == (name, name)
            inputs = {tensor["name"]: tensor for tensor in config["input"]}
            assert {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]} == {
                tensor: [-1, *inputs[tensor]["dims"]] for tensor in inputs
            }
            assert (await get(base + "/stats"))["model_stats"][0]["name"] == name
    assert [model["name"] for model in (await get("/v2/models/stats"))["model_stats"]] == ["dmvfn", "dmvfn_image"]


async def test_health_is_told_in_json_which_kserves_client_parses(edge: Edge) -> None:
    """An empty 200 made its `is_server_ready` raise JSONDecodeError."""
    documents = {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/dmvfn/ready": {"name": "dmvfn", "ready": True},
        "/v2/models/dmvfn_image/versions/1/ready": {"name": "dmvfn_image", "ready": True},
    }
    assert {path: (await edge.http.get(path)).json() for path in documents} == documents


async def test_a_null_member_is_an_absent_one(edge: Edge) -> None:
    body = _plain(id=None, parameters=None, outputs=[{"name": "ROUTE", "parameters": None}])
    body["inputs"][0]["parameters"] = None
    answer = await edge.http.post("/v2/models/dmvfn/infer", json=body)
    assert (answer.status_code, "id" in answer.json()) == (200, False)
    nulls = {"route": None, "blocks": None, "scale": None, "quality": None, "timeout": None, "binary_data_output": None}
    assert (await edge.http.post("/v2/models/dmvfn/infer", json=_plain(parameters=nulls))).status_code == 200
    content, headers = _body()
    size = int(headers[LENGTH])
    head = json.loads(content[:size])
    head["inputs"][0]["data"] = None
    text = json.dumps(head).encode()
    answer = await edge.http.post(
        "/v2/models/dmvfn/infer", content=text + content[size:], headers={LENGTH: str(len(text))}
    )
    assert answer.status_code == 200


async def test_whole_numbers_may_be_written_with_a_point(edge: Edge) -> None:
    """The protocol group's own client writes every number as a double."""
    body = _plain(parameters={"steps": 2.0, "route": "sample", "timeout": 5e6})
    body["inputs"][0]["shape"] = [float(side) for side in body["inputs"][0]["shape"]]
    body["inputs"][0]["data"] = [float(value) for value in body["inputs"][0]["data"]]
    body["inputs"].append({"name": "SEED", "datatype": "UINT64", "shape": [1.0], "data": [7.0]})
    answer = await edge.http.post("/v2/models/dmvfn/infer", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"]["seed"] == "7"
    [asked] = edge.engine.asked
    assert (asked.options.steps, asked.options.route.seed) == (2, 7)
    refused = await edge.http.post("/v2/models/dmvfn/infer", json=_plain(parameters={"steps": 1.5}))
    assert (refused.status_code, refused.json()["field"]) == (400, "parameters.steps")


async def test_an_unknown_parameter_is_refused_by_its_name(edge: Edge) -> None:
    answer = await edge.http.post("/v2/models/dmvfn/infer", json=_plain(parameters={"step": 2}))
    assert (answer.status_code, answer.json()["field"]) == (400, "parameters.step")
    assert "steps" in answer.json()["detail"]
    stock = {"priority": 1, "sequence_id": 3, "sequence_start": True, "content_type": "np", "triton_own": 1}
    assert (await edge.http.post("/v2/models/dmvfn/infer", json=_plain(parameters=stock))).status_code == 200


async def test_readiness_is_the_engines(edge: Edge) -> None:
    paths = ("/v2/health/ready", "/v2/models/dmvfn/ready", "/v2/models/dmvfn/versions/1/ready")
    assert [(await edge.http.get(path)).status_code for path in paths] == [200] * 3
    edge.engine.state = Readiness(False, "starting")
    assert [(await edge.http.get(path)).status_code for path in paths] == [503] * 3
    assert (await edge.http.get("/v2/health/live")).status_code == 200
    index = await edge.http.post("/v2/repository/index")
    assert [model["state"] for model in index.json()] == ["UNAVAILABLE"] * 2
    assert (await edge.http.post("/v2/repository/index", json={"ready": True})).json() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/dmvfn/versions/9", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/repository/models/dmvfn/load", 501),
        ("POST", "/v2/repository/models/dmvfn/unload", 501),
        ("GET", "/v2/trace/setting", 501),
        ("POST", "/v2/models/dmvfn/trace/setting", 501),
        ("POST", "/v2/logging", 501),
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/a/register", 501),
    ],
)
async def test_what_is_not_here_is_answered_plainly(edge: Edge, method: str, path: str, status: int) -> None:
    answer = await edge.http.request(method, path)
    assert (answer.status_code, answer.json()["error"] != "") == (status, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["FRAMES", "SEED", "FRAME0", "PRED"]) | JSON,
        "datatype": st.sampled_from(["UINT8", "UINT64", "BYTES"]) | JSON,
        "shape": st.lists(st.integers(-1, 17), max_size=5) | JSON,
        "data": JSON,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "steps"]), JSON) | JSON,
    },
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "id": JSON,
            "inputs": st.lists(MEMBERS, max_size=3) | JSON,
            "outputs": st.lists(MEMBERS, max_size=2) | JSON,
            "parameters": st.dictionaries(st.sampled_from(["route", "steps", "seed", "timeout"]), JSON) | JSON,
        },
    ),
    tail=st.binary(max_size=40),
    model=st.sampled_from(["dmvfn", "dmvfn_image"]),
)
async def test_no_body_is_our_fault(edge: Edge, body: dict[str, Any], tail: bytes, model: str) -> None:
    head = json.dumps(body).encode()
    answer = await edge.http.post(f"/v2/models/{model}/infer", content=head + tail, headers={LENGTH: str(len(head))})
    assert answer.status_code in (200, 400, 413, 422, 501)
