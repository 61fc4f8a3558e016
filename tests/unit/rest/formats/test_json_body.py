"""JSON that is read at a bounded cost: what it means is as before, what it could cost is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.errors import ServiceError, TooLarge
from service.rest.formats import json_body, oip_messages, stream_messages
from service.rest.formats.json_body import base64_in_pieces, check_values, read_numbers, read_object, split_numbers
from service.rest.routes import jobs as jobs_routes
from service.rest.routes.oip import router
from service.serving.jobs.local import LocalJobs
from service.settings import Settings
from tests.measured import UpperBounds
from tests.unit.imaging.pictures import file_of, smooth
from tests.unit.memory import peak_mib
from tests.unit.rest.small import Small, running


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


@pytest.mark.measured
@pytest.mark.parametrize("name", BODIES)
async def test_many_small_values_are_refused_without_a_stall_or_much_memory(name: str) -> None:
    body = BODIES[name]()
    # A tenth of the seconds on an idle machine; without the bounds twice as many, and 500 MiB. Of memory, the body
    # itself, once more in pieces, and the pixels of four million numbers.
    bounds = UpperBounds(stall_s=0.2, grown_mib=6 * SIZE / 2**20)
    async with serving_every_body() as small:
        while bounds.unmet():
            before = peak_mib(reset=True)
            async with longest_stall() as stall:
                for path in PATHS:
                    answer = await small.http.post(path, content=body, headers={"Content-Type": "application/json"})
                    assert answer.status_code in (400, 413), (path, answer.text)
            bounds.measured(stall_s=stall(), grown_mib=peak_mib() - before)


@asynccontextmanager
async def longest_stall() -> AsyncIterator[Callable[[], float]]:
    """Measure the longest time for which nothing else ran on this loop, seconds.

    Time on the clock while others had the machine is no stall, nor is processor time that other threads took beside
    this one: whoever holds this loop up spends both.
    """
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            wall, used = time.monotonic(), time.process_time()
            await asyncio.sleep(0.001)
            longest = max(longest, min(time.monotonic() - wall, time.process_time() - used))

    watching = asyncio.ensure_future(watch())
    try:
        yield lambda: longest
    finally:
        watching.cancel()


@pytest.mark.parametrize("shape", ["999999,0,0,3", "2,0,0,3", "999999,16,16,3", "0,16,16,3", "1,16,16,3"])
async def test_a_job_of_raw_frames_that_are_no_pair_names_the_header(shape: str) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-Frame-Shape": shape}
    async with serving_every_body() as small:
        answer = await small.http.post("/v1/jobs", content=bytes(768), headers=headers)
    assert answer.status_code in (400, 413, 422)
    assert answer.json()["field"] == "X-Frame-Shape"


async def test_a_job_of_one_frame_names_the_field() -> None:
    async with serving_every_body() as small:
        answer = await small.http.post("/v1/jobs", json={"frames": [PNG]})
    assert (answer.status_code, answer.json()["field"]) == (400, "frames")
    assert answer.json()["detail"] == "a job needs at least 2 frames, not 1"


async def test_as_many_frames_as_a_job_may_have_may_be_data_urls() -> None:
    limit = Settings().max_job_frames
    async with serving_every_body() as small:
        answer = await small.http.post("/v1/jobs", json={"frames": [f"data:image/png;base64,{PNG}"] * limit})
    assert answer.status_code == 202, answer.text


# --- one rule for every body ------------------------------------------------------------------------------------------

PNG = base64.b64encode(file_of(smooth(16, 16), "PNG")).decode()
STREAM = "stream"
#: Each place where JSON comes in, and a member that it knows.
MEMBERS = {**dict.fromkeys(PATHS, b'"ready":true'), STREAM: b'"type":"start"'}
MEMBERS |= {"/v1/predict": b'"steps":1', "/v1/jobs": b'"steps":1', "/v2/models/dmvfn/infer": b'"id":"a"'}
WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "given twice": (lambda member: b"{%b,%b}" % (member, member), "json_duplicate"),
    "given twice, the first null": (
        lambda member: b"{%b:null,%b}" % (member.partition(b":")[0], member),
        "json_duplicate",
    ),
    "given twice inside": (lambda member: b'{%b,"x":[{"y":1,"y":2}]}' % member, "json_duplicate"),
    "NaN": (lambda member: b'{%b,"x":NaN}' % member, "json_number"),
    "Infinity": (lambda member: b'{%b,"x":[-Infinity]}' % member, "json_number"),
    "nested": (lambda member: b'{%b,"x":%b1%b}' % (member, b"[" * 32, b"]" * 32), "json_nesting"),
    "no object": (lambda member: b"[1]", "json_type"),
    "an open end": (lambda member: b"{%b" % member, "json_syntax"),
    "no UTF-8": (lambda member: b'{%b,"x":"\xff"}' % member, "json_syntax"),
}


@asynccontextmanager
async def serving_every_body() -> AsyncIterator[Small]:
    async with running(Settings()) as small:
        jobs = LocalJobs(small.parts.settings, small.engine, small.parts.metrics)
        small.app.include_router(router(small.parts))
        small.app.include_router(jobs_routes.router(small.parts, jobs))
        yield small
        await jobs.close()


@pytest.mark.parametrize("name", WRONG)
async def test_every_body_of_json_is_read_by_one_rule(name: str) -> None:
    spoil, reason = WRONG[name]
    async with serving_every_body() as small:
        for path in PATHS:
            body = spoil(MEMBERS[path])
            answer = await small.http.post(path, content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json().get("reason")) == (400, reason), (path, answer.text)
            assert answer.json()["field"]


@pytest.mark.parametrize("name", WRONG)
def test_every_message_of_a_stream_is_read_by_the_same_rule(name: str) -> None:
    spoil, reason = WRONG[name]
    body = spoil(MEMBERS[STREAM])
    with pytest.raises(ServiceError) as header:
        stream_messages.incoming(struct.pack("<I", len(body)) + body)
    assert header.value.reason == reason
    text = body.decode("utf-8", "replace")
    if name != "no UTF-8":  # a WebSocket's text is UTF-8 already
        with pytest.raises(ServiceError) as start:
            stream_messages.start(text, max_steps=4, max_deadline_ms=1000)
        assert start.value.reason == reason


def test_json_of_a_size_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge) as refused:
        read_object(b'{"a":"' + b"x" * 100 + b'"}', max_values=4, max_bytes=100, name="header")
    assert refused.value.field == "header"
    assert read_object('{"a": [1.5, {"b": null}]}', max_values=9) == {"a": [1.5, {"b": None}]}


def test_files_in_json_are_still_read() -> None:
    tensor = {"name": "FRAME0", "datatype": "BYTES", "shape": [1, 1], "data": ["QUJD"]}
    asked = oip_messages.read(json.dumps({"inputs": [tensor], "id": "a"}).encode(), None, "dmvfn_image", "")
    assert asked.request.inputs[0].data == ["QUJD"]
