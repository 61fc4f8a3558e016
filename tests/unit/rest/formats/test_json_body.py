"""JSON that is read at a bounded cost: what it means is as before, what it could cost is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.errors import ServiceError, TooLarge
from service.imaging.codec import FrameLimits
from service.rest.formats import job_body, json_body, oip_messages
from service.rest.formats.json_body import base64_in_pieces, check_values, read_numbers, split_numbers
from service.rest.routes import jobs as jobs_routes
from service.rest.routes.oip import router
from service.serving.jobs.local import LocalJobs
from service.settings import Settings
from tests.unit.rest.small import running


def _read(data: str, datatype: str = "UINT8") -> bytes | list[object]:
    lists = split_numbers(f'{{"data": {data}, "b": 1}}'.encode())
    whole = json.loads(lists.rest)
    assert whole["b"] == 1
    span = lists.of(whole["data"])
    assert span is not None
    return read_numbers(lists, span, "X", datatype)


row = st.lists(st.integers(0, 255), min_size=1, max_size=8)
nested = st.recursive(row, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=9)


def _flat(value: Any) -> list[int]:
    return [part for one in value for part in _flat(one)] if isinstance(value, list) else [value]


@settings(max_examples=60, deadline=None)
@given(nested, st.sampled_from([None, 2]))
def test_numbers_read_in_pieces_are_those_that_were_written(value: Any, indent: int | None) -> None:
    before, json_body.PIECE = json_body.PIECE, 24 if indent is None else 200
    try:
        text = json.dumps(value, indent=indent)
        assert _read(text) == bytes(_flat(value))
        assert _read(text, "UINT64") == _flat(value)
    finally:
        json_body.PIECE = before


def test_a_whole_number_with_a_point_is_a_whole_number() -> None:
    assert _read("[1.0, 255.0, 3, 1e1]") == bytes([1, 255, 3, 10])


@pytest.mark.parametrize(
    "text",
    ["[1,,2]", "[1,]", "[1][2]", "[1],[2]]", "[[1,2]", "[1[2]]", "[1 2]", "[256]", "[-1]", "[1.5]", "[1e999]", "[--1]",
     "[" * 9 + "1" + "]" * 9, "[" + "9" * 5000 + "]", "[01]", "[1.]", "[+1]", "[9" + "9" * 200_000 + "]"],
)  # fmt: skip
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises((ServiceError, ValueError, AssertionError)):
        _read(text)


def test_a_name_that_only_ends_like_data_is_left_alone() -> None:
    body = rb'{"a\"data": [1, 2], "data": ["x"], "b": "\"data\": [3]"}'
    lists = split_numbers(body)
    assert (lists.rest, lists.spans) == (body, [])


def test_values_are_counted_before_they_are_read() -> None:
    check_values(b'{"a": [1, 2, 3]}', 4)
    with pytest.raises(TooLarge, match="more than 3 values"):
        check_values(b'{"a": [1, 2, 3]}', 3)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 200_000, json_body.PIECE * 3 + 1])
def test_base64_in_pieces_is_base64(length: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    text = base64.b64encode(data[:length]).decode()
    assert base64_in_pieces(text) == data[:length]
    with pytest.raises(ValueError):  # noqa: PT011  # binascii's words are not ours
        base64_in_pieces(text[: len(text) // 8 * 4] + "=" + text)


# --- hostile bodies, on every path that reads JSON --------------------------------------------------------------------

SIZE = 16 * 2**20
HEAD = b'"name":"FRAMES","datatype":"UINT8","shape":[1]'
BODIES: dict[str, Callable[[], bytes]] = {
    "empty lists": lambda: b'{"x":[' + b"[]," * (SIZE // 3) + b"[]]}",
    "objects": lambda: b'{"x":[' + b'{"a":{}},' * (SIZE // 9) + b"{}]}",
    "numbers": lambda: b'{"x":[' + b"0," * (SIZE // 2) + b"0]}",
    "data": lambda: b'{"inputs":[{%b,"data":[' % HEAD + b"0," * (SIZE // 2) + b"0]}]}",
    "lists of data": lambda: b'{"inputs":[' + b'{"data":[1]},' * (SIZE // 13) + b"{}]}",
    "depth": lambda: b"[" * SIZE,
    "deep data": lambda: b'{"data":[' + b"[" * SIZE + b"1]}",
    "one number": lambda: b'{"steps":' + b"9" * SIZE + b"}",
    "one fraction": lambda: b'{"scale":0.' + b"9" * SIZE + b"}",
}  # fmt: skip
PATHS = ("/v1/predict", "/v1/jobs", "/v2/models/dmvfn/infer", "/v2/repository/index")


def _peak_mib(*, reset: bool = False) -> float:
    """The most memory this process has had since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.parametrize("name", BODIES)
async def test_many_small_values_are_refused_without_a_stall_or_much_memory(name: str) -> None:
    body, longest = BODIES[name](), 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    async with running(Settings()) as small:
        jobs = LocalJobs(small.parts.settings, small.engine, small.parts.metrics)
        small.app.include_router(router(small.parts))
        small.app.include_router(jobs_routes.router(small.parts, jobs))
        watching = asyncio.ensure_future(watch())
        before = _peak_mib(reset=True)
        for path in PATHS:
            answer = await small.http.post(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 413), (path, answer.text)
        watching.cancel()
        await jobs.close()
        grown = _peak_mib() - before
    # A twentieth of it on an idle machine; without the bounds a second and more.
    assert longest < 0.3, f"nothing else ran for {longest:.3f} s"
    # The body itself, once more in pieces, and the pixels of four million numbers.
    assert grown < 6 * SIZE / 2**20, f"{grown:.0f} MiB"


@pytest.mark.parametrize("shape", ["999999,0,0,3", "2,0,0,3", "999999,16,16,3"])
def test_a_job_of_no_pixels_makes_no_frames(shape: str) -> None:
    with pytest.raises(ServiceError) as refused:
        job_body._raw(b"", shape, 256, FrameLimits.of(Settings()))
    assert refused.value.field == "X-Frame-Shape"


def test_files_in_json_are_still_read() -> None:
    tensor = {"name": "FRAME0", "datatype": "BYTES", "shape": [1, 1], "data": ["QUJD"]}
    asked = oip_messages.read(json.dumps({"inputs": [tensor], "id": "a"}).encode(), None, "dmvfn_image", "")
    assert asked.request.inputs[0].data == ["QUJD"]
