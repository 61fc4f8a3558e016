"""How much a message may hold, by what it says of itself before it is parsed."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from proto.dmvfn.v1 import dmvfn_pb2 as ours
from proto.inference import inference_pb2 as pb
from service.core.errors import InvalidRequest, TooLarge
from service.rpc.message_fields import MAX_FIELDS, MAX_PACKED
from service.rpc.message_reading import UnparsedMessage, lenient_parser
from tests.unit.rpc.serving import served
from tests.unit.rpc.small import SmallEngine

INFER = "/inference.GRPCInferenceService/ModelInfer"
PARSE = lenient_parser(pb.ModelInferRequest.FromString)
#: Empty inputs, outputs and raw contents, and fields that nobody knows: two bytes each.
INPUT, OUTPUT, RAW, UNKNOWN = b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x7a\x00"


def _within(number: int, content: bytes) -> bytes:
    """A field whose value is `content`, of less than 256 MiB."""
    length = len(content)
    return bytes([number << 3 | 2, *(length >> shift & 0x7F | 0x80 for shift in (0, 7, 14)), length >> 21]) + content


def _refusal(data: bytes) -> BaseException:
    message = PARSE(data)
    assert isinstance(message, UnparsedMessage)
    return message.error


@pytest.mark.parametrize("field", [INPUT, OUTPUT, RAW, UNKNOWN])
def test_a_message_of_tiny_fields_is_refused_before_it_is_parsed(field: bytes) -> None:
    """Twelve megabytes of empty inputs took a gigabyte, and all other calls waited until they were converted."""
    assert isinstance(_refusal(field * (MAX_FIELDS + 1)), TooLarge)
    assert not isinstance(PARSE(field * MAX_FIELDS), UnparsedMessage)


def test_fields_within_fields_count_together() -> None:
    parameters = b"\x22\x00" * (MAX_FIELDS // 2)
    assert isinstance(_refusal(_within(5, parameters) * 2), TooLarge)
    assert isinstance(_refusal(b"".join(_within(5, _within(4, b"\x0a\x00")) for _ in range(MAX_FIELDS // 2))), TooLarge)


@pytest.mark.parametrize("contents", [1, 3, 4, 5])
def test_numbers_that_would_grow_when_they_are_parsed_are_bounded(contents: int) -> None:
    """A byte of a packed number becomes up to eight."""
    assert isinstance(_refusal(_within(5, _within(5, _within(contents, bytes(MAX_PACKED + 1))))), TooLarge)


def test_a_request_with_large_pictures_passes_whichever_way_they_come() -> None:
    request = pb.ModelInferRequest(model_name="dmvfn", raw_input_contents=[bytes(2 * MAX_PACKED)])
    typed = request.inputs.add(name="FRAMES", datatype="UINT8", shape=[1, 2, 64, 64, 3])
    typed.contents.uint_contents.extend([200] * 3 * 2**16)
    typed.contents.bytes_contents.extend([b"x" * 1000] * 64)
    assert PARSE(request.SerializeToString()) == request
    frame = ours.Frame(encoded=bytes(2**20))
    pair = ours.PredictRequest(previous=frame, current=frame)
    assert lenient_parser(ours.PredictRequest.FromString)(pair.SerializeToString()) == pair


def test_what_is_no_message_is_told_by_who_parses_it() -> None:
    for data in (b"\xff" * 2**14, b"\x2a" + b"\x80" * 2**14, b"\x0f" * 2**14):
        assert isinstance(_refusal(data), InvalidRequest)


async def test_a_call_with_such_a_message_is_answered_and_others_are_served() -> None:
    async with served(SmallEngine()) as s, asyncio.timeout(60):
        for field in (INPUT, OUTPUT):
            with pytest.raises(grpc.aio.AioRpcError, match="more than 4096 fields") as refused:
                await s.channel.unary_unary(INFER)(field * 10**6)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        live = await s.channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"")
        assert pb.ServerLiveResponse.FromString(live).live
