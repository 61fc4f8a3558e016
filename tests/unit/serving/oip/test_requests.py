"""Tensors to items and back; what does not fit is refused by name, before anything is allocated for it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import InvalidRequest, NotFound, ServiceError, Unsupported
from service.core.interfaces import VersionState, VersionStatus
from service.core.timings import Timings
from service.core.types import MAX_SEED, Frame, PredictResult, Quality, RoutePolicy, Step
from service.imaging.codec import ImageFormat
from service.serving.oip import models as oip_models
from service.serving.oip import requests as oip_requests
from service.serving.oip.requests import InferRequest
from service.serving.oip.served_versions import ServedVersions
from service.serving.oip.statistics import InferStatistics, InferTimings
from service.serving.oip.tensors import Tensor, elements, pack, refuse_shared_memory

H, W = 16, 20
SIZE = H * W * 3


def _frames(batch: int = 1, data: Any = None) -> Tensor:
    raw = np.random.default_rng(0).integers(0, 256, batch * 2 * SIZE, dtype=np.uint8).tobytes()
    return Tensor("FRAMES", "UINT8", (batch, 2, H, W, 3), raw if data is None else data)


def _parse(
    *inputs: Tensor, model: str = "dmvfn", outputs: tuple[str, ...] = (), **parameters: object
) -> oip_requests.InferBatch:
    return oip_requests.parse(InferRequest(model, "", "", parameters, inputs, outputs), max_batch=4, max_steps=3)


def _field(*inputs: Tensor, **more: Any) -> str | None:
    with pytest.raises(ServiceError) as refused:
        _parse(*inputs, **more)
    return refused.value.field


def test_a_batch_becomes_one_item_for_each_entry() -> None:
    tensor = _frames(3)
    parsed = _parse(tensor, Tensor("SEED", "UINT64", (3, 1), struct.pack("<3Q", 5, 6, 7)))
    assert isinstance(tensor.data, bytes)
    assert [bytes(item.previous) + bytes(item.current) for item in parsed.items] == [
        tensor.data[n * 2 * SIZE : (n + 1) * 2 * SIZE] for n in range(3)
    ]
    assert [item.options.route.seed for item in parsed.items] == [5, 6, 7]
    assert {item.shape for item in parsed.items} == {(H, W)}
    assert (parsed.format, parsed.outputs) == (ImageFormat.RAW, ("PRED", "ROUTE", "FLOPS"))


def test_of_a_seeds_bits_the_lower_53_count() -> None:
    [item] = _parse(_frames(), Tensor("SEED", "UINT64", (1, 1), b"\xff" * 8)).items
    assert item.options.route.seed == MAX_SEED


def test_elements_one_by_one_mean_what_bytes_mean() -> None:
    raw = _frames().data
    assert isinstance(raw, bytes)
    flat = list(raw)
    nested = np.frombuffer(raw, np.uint8).reshape(1, 2, H, W, 3).tolist()
    for data in (flat, nested):
        [item] = _parse(_frames(data=data)).items
        assert bytes(item.previous) + bytes(item.current) == raw


def test_image_files_come_as_bytes_or_base64() -> None:
    files = [b"one", b"", b"three"]
    raw = [Tensor(name, "BYTES", (3, 1), pack(files)) for name in ("FRAME0", "FRAME1")]
    texts = [base64.b64encode(file).decode() for file in files]
    typed = [Tensor(name, "BYTES", (3, 1), [[text] for text in texts]) for name in ("FRAME0", "FRAME1")]
    for inputs in (raw, typed):
        parsed = _parse(*inputs, model="dmvfn_image", format="jpeg", image_quality=80)
        assert [(item.previous, item.current, item.shape) for item in parsed.items] == [(f, f, None) for f in files]
        assert (parsed.format, parsed.image_quality) == (ImageFormat.JPEG, 80)


def test_a_quality_that_the_format_has_not_is_refused() -> None:
    inputs = [Tensor(name, "BYTES", (1, 1), pack([b"file"])) for name in ("FRAME0", "FRAME1")]
    for more in (
        {"image_quality": 90},
        {"image_quality": 90, "format": "ppm"},
        {"image_quality": 101, "format": "jpeg"},
    ):
        assert _field(*inputs, model="dmvfn_image", **more) == "parameters.image_quality"


def test_parameters_say_how_and_those_of_extensions_are_left_alone() -> None:
    parsed = _parse(
        _frames(), route="sample", seed=9, steps="2", scale="0.5", quality="adaptive", timeout=1500, priority=3
    )
    [item] = parsed.items
    assert (item.options.route.policy, item.options.route.seed) == (RoutePolicy.SAMPLE, 9)
    assert (item.options.steps, item.options.scale, item.options.quality) == (2, 0.5, Quality.ADAPTIVE)
    assert parsed.timeout_us == 1500
    assert _parse(_frames(), timeout=0).timeout_us is None
    assert _parse(_frames(), blocks=2).items[0].options.route.blocks == 2
    assert _parse(_frames(), blocks=2.0, scale=None).items[0].options.route.blocks == 2


@pytest.mark.parametrize("text", ["1_0", " 2", "2 ", "+2", "\u0662", "2\n", "0x2", ""])
def test_a_string_that_only_python_takes_for_a_number_is_refused(text: str) -> None:
    for name in ("steps", "seed", "blocks", "timeout", "scale"):
        assert _field(_frames(), **{name: text}) == f"parameters.{name}"
    assert _field(_frames(), quality="") == "parameters.quality"


def test_a_parameter_that_means_nothing_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        InvalidRequest, match="there is no parameter rout; the parameters are method, route, "
    ) as refused:
        _parse(_frames(), rout="full")
    assert refused.value.field == "parameters.rout"


@pytest.mark.parametrize(
    ("inputs", "more", "field"),
    [
        ([], {}, "inputs.FRAMES"),
        ([_frames(), _frames()], {}, "inputs.FRAMES"),
        ([_frames(), Tensor("X", "UINT8", (1,), b"")], {}, "inputs.X"),
        ([Tensor("FRAMES", "FP32", (1, 2, H, W, 3), b"")], {}, "inputs.FRAMES"),
        ([Tensor("FRAMES", "UINT8", (2, H, W, 3), b"")], {}, "inputs.FRAMES"),
        ([Tensor("FRAMES", "UINT8", (0, 2, H, W, 3), b"")], {}, "inputs.FRAMES"),
        ([Tensor("FRAMES", "UINT8", (5, 2, H, W, 3), b"")], {}, "inputs.FRAMES"),
        ([Tensor("FRAMES", "UINT8", (1, 2, -H, -W, 3), b"x" * 2 * SIZE)], {}, "inputs.FRAMES"),
        ([Tensor("FRAMES", "UINT8", (1, 2, 2**62, 2**62, 3), b"")], {}, "inputs.FRAMES"),
        ([_frames(data=b"short")], {}, "inputs.FRAMES"),
        ([_frames(data=[0] * 5)], {}, "inputs.FRAMES"),
        ([_frames(data=[256] * 2 * SIZE)], {}, "inputs.FRAMES"),
        ([_frames(data=[0.5] * 2 * SIZE)], {}, "inputs.FRAMES"),
        ([_frames(data=[[[[[[[[[0]]]]]]]]])], {}, "inputs.FRAMES"),
        ([_frames(), Tensor("SEED", "UINT64", (2, 1), b"\0" * 16)], {}, "inputs.SEED"),
        ([_frames(), Tensor("SEED", "UINT64", (1, 1), [2**64])], {}, "inputs.SEED"),
        ([_frames()], {"seed": 2**53}, "parameters.seed"),
        ([_frames()], {"outputs": ("MASK",)}, "outputs.MASK"),
        ([_frames()], {"outputs": ("PRED", "PRED")}, "outputs"),
        ([_frames()], {"steps": 4}, "parameters.steps"),
        ([_frames()], {"steps": True}, "parameters.steps"),
        ([_frames()], {"steps": "two"}, "parameters.steps"),
        ([_frames()], {"scale": 10**400}, "parameters.scale"),
        ([_frames()], {"scale": "nan"}, "parameters.scale"),
        ([_frames()], {"route": 111111111}, "parameters.route"),
        ([_frames()], {"quality": "best"}, "parameters.quality"),
        ([_frames()], {"timeout": -1}, "parameters.timeout"),
        ([_frames()], {"format": "png"}, "parameters.format"),
        ([_frames()], {"image_quality": 90}, "parameters.image_quality"),
        ([Tensor("FRAME0", "BYTES", (1, 1), b"\1\0\0\0")], {"model": "dmvfn_image"}, "inputs.FRAME0"),
        ([Tensor("FRAME0", "BYTES", (1, 1), b"\1\0")], {"model": "dmvfn_image"}, "inputs.FRAME0"),
        ([Tensor("FRAME0", "BYTES", (2, 1), pack([b"a"]))], {"model": "dmvfn_image"}, "inputs.FRAME0"),
        ([Tensor("FRAME0", "BYTES", (1, 1), ["*"])], {"model": "dmvfn_image"}, "inputs.FRAME0"),
        ([Tensor("FRAME0", "BYTES", (1, 1), [1])], {"model": "dmvfn_image"}, "inputs.FRAME0"),
    ],
)
def test_what_does_not_fit_is_named(inputs: list[Tensor], more: dict[str, Any], field: str) -> None:
    assert _field(*inputs, **more) == field


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(
    model=st.sampled_from(["dmvfn", "dmvfn_image"]),
    inputs=st.lists(
        st.builds(
            Tensor,
            st.sampled_from(["FRAMES", "FRAME0", "FRAME1", "SEED", "?"]),
            st.sampled_from(["UINT8", "BYTES", "UINT64", "FP32", ""]),
            st.lists(st.integers(-1, 3) | st.integers(), max_size=6).map(tuple),
            st.lists(ANYTHING, max_size=5) | st.binary(max_size=64),
        ),
        max_size=4,
    ),
    parameters=st.dictionaries(
        st.sampled_from(["route", "seed", "steps", "scale", "blocks", "timeout", "format", "quality", "image_quality"]),
        ANYTHING,
    ),
    outputs=st.lists(st.sampled_from(["PRED", "FLOPS", "X"]), max_size=3).map(tuple),
)
def test_nothing_but_service_errors_ever_comes_of_a_request(
    model: str, inputs: list[Tensor], parameters: dict[str, object], outputs: tuple[str, ...]
) -> None:
    request = InferRequest(model, "", "", parameters, tuple(inputs), outputs)
    with contextlib.suppress(ServiceError):  # anything else fails the test
        assert 1 <= len(oip_requests.parse(request, max_batch=4, max_steps=3).items) <= 4


def _result(level: int, steps: int = 2) -> PredictResult:
    frame = Frame(np.full((H, W, 3), level, np.uint8))
    route = (True,) + (False,) * 8
    return PredictResult("r", (Step(frame, route, 7 + level),) * steps, "w", Timings(0.1, 0.2, 0.3), batch_size=2)


def _pictures(results: Sequence[PredictResult]) -> list[list[bytes]]:
    return [[step.frame.pixels.tobytes() for step in result.steps] for result in results]


def test_outputs_are_those_asked_for_in_that_order() -> None:
    results = [_result(1), _result(2)]
    parsed = _parse(_frames(2), outputs=("FLOPS", "PRED", "ROUTE"))
    flops, pred, route = oip_requests.tensors(parsed, results, _pictures(results))
    assert (flops.name, flops.datatype, flops.shape, elements(flops)) == ("FLOPS", "FP64", (2, 2), [8.0, 8.0, 9.0, 9.0])
    assert (pred.datatype, pred.shape, pred.data) == ("UINT8", (2, 2, H, W, 3), b"\1" * 2 * SIZE + b"\2" * 2 * SIZE)
    assert (route.shape, elements(route)) == ((2, 2, 9), ([1] + [0] * 8) * 4)


def test_image_outputs_are_files_with_their_lengths() -> None:
    inputs = [Tensor(name, "BYTES", (1, 1), pack([b"x"])) for name in ("FRAME0", "FRAME1")]
    parsed = _parse(*inputs, model="dmvfn_image", outputs=("PRED",))
    [pred] = oip_requests.tensors(parsed, [_result(1)], [[b"abc", b"d"]])
    assert (pred.datatype, pred.shape, pred.data) == ("BYTES", (1, 2), b"\3\0\0\0abc\1\0\0\0d")
    assert elements(pred) == ["YWJj", "ZA=="]


def test_models_and_versions_that_are_not_there_are_not_found() -> None:
    assert ServedVersions().find_model("dmvfn", "1") is oip_models.find_model("dmvfn")
    for name, version in (("other", ""), ("dmvfn", "2")):
        with pytest.raises(NotFound):
            ServedVersions().find_model(name, version)


def test_named_versions_go_by_their_names_and_one_file_by_1() -> None:
    statuses = tuple(VersionStatus(name, VersionState.READY, is_default=name == "b") for name in ("b", "a"))
    named, unnamed = ServedVersions(statuses, is_named=True), ServedVersions(statuses)
    assert (named.names, unnamed.names) == (("b", "a"), ("1", "a"))
    assert (named.option(""), named.option("a"), unnamed.option("1"), unnamed.option("b")) == (None, "a", None, "b")
    assert (named.display_name("", "b"), unnamed.display_name("", "b"), unnamed.display_name("b", "b")) == (
        "b",
        "1",
        "b",
    )
    with pytest.raises(NotFound, match="there is no version '1'; there is b, a"):
        named.option("1")


def test_shared_memory_is_refused() -> None:
    refuse_shared_memory({"binary_data": True}, "outputs.PRED")
    with pytest.raises(Unsupported):
        refuse_shared_memory({"shared_memory_region": "a"}, "outputs.PRED")


def test_statistics_add_up_requests_items_and_executions() -> None:
    statistics = InferStatistics()
    statistics.models["dmvfn"].count_answer([_result(1), _result(2)], InferTimings(2.0, 0.5, 0.25), now_ms=1234)
    statistics.models["dmvfn"].count_failure(1.0)
    [shown] = statistics.documents("dmvfn")
    assert (shown["inference_count"], shown["execution_count"], shown["last_inference"]) == (2, 1, 1234)
    assert shown["inference_stats"] == {
        "success": {"count": 1, "ns": 2_000_000_000},
        "fail": {"count": 1, "ns": 1_000_000_000},
        "queue": {"count": 1, "ns": 100_000_000},
        "compute_input": {"count": 1, "ns": 500_000_000},
        "compute_infer": {"count": 1, "ns": 500_000_000},
        "compute_output": {"count": 1, "ns": 250_000_000},
        "cache_hit": {"count": 0, "ns": 0},
        "cache_miss": {"count": 0, "ns": 0},
    }
    mixture = dataclasses.replace(_result(1), timings=Timings(0.1, motion=0.5, mixing=0.25))
    statistics.models["dmvfn"].count_answer([mixture], InferTimings(2.0, 0.5, 0.25), now_ms=1235)
    figures: Any = statistics.documents("dmvfn")[0]["inference_stats"]
    assert figures["compute_infer"] == {"count": 2, "ns": 1_250_000_000}
    assert [model["name"] for model in statistics.documents()] == ["dmvfn", "dmvfn_image"]
    assert statistics.documents("other") == []
