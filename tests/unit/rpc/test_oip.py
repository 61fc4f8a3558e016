"""The Open Inference Protocol over a real gRPC connection: what its messages mean, and what a client may get wrong."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from proto.inference import inference_pb2 as pb
from service.core.errors import QueueFull
from service.core.interfaces import Readiness
from service.serving.oip.tensors import MAX_TYPED
from tests.unit.rpc.serving import served
from tests.unit.rpc.small import SmallEngine, extrapolated, picture

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


def _infer(
    batch: int = 1, *, typed: bool = False, id_: str = "", **parameters: pb.InferParameter
) -> pb.ModelInferRequest:
    pixels = np.stack([picture(n, 16, 24) for n in range(2 * batch)])
    tensor = Input(name="FRAMES", datatype="UINT8", shape=[batch, 2, 16, 24, 3])
    request = pb.ModelInferRequest(model_name="dmvfn", id=id_, inputs=[tensor], parameters=parameters)
    if typed:
        request.inputs[0].contents.uint_contents.extend(pixels.ravel().tolist())
    else:
        request.raw_input_contents.append(pixels.tobytes())
    return request


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _expected(batch: int) -> bytes:
    frames = [picture(n, 16, 24) for n in range(2 * batch)]
    return b"".join(extrapolated(frames[2 * n], frames[2 * n + 1], 1)[0].tobytes() for n in range(batch))


async def test_raw_and_typed_tensors_are_answered_raw_and_in_order() -> None:
    async with served(SmallEngine()) as s:
        raw = await s.v2.ModelInfer(_infer(2, id_="a"))
        typed = await s.v2.ModelInfer(_infer(2, typed=True))
    assert (raw.id, raw.model_version, raw.parameters["weights"].string_param) == ("a", "1", "small-1")
    assert [(o.name, o.datatype, list(o.shape)) for o in raw.outputs] == [
        ("PRED", "UINT8", [2, 1, 16, 24, 3]),
        ("ROUTE", "UINT8", [2, 1, 9]),
        ("FLOPS", "FP64", [2, 1]),
    ]
    assert raw.raw_output_contents[0] == _expected(2)
    assert list(typed.raw_output_contents) == list(raw.raw_output_contents)


@pytest.mark.parametrize("is_raw", [False, True])
async def test_files_that_mlservers_codec_made_are_base64_over_grpc_too(is_raw: bool) -> None:
    files = [_png(picture(n, 16, 24)) for n in range(2)]
    texts = [base64.b64encode(file) for file in files]

    def request(elements: list[bytes], **parameters: pb.InferParameter) -> pb.ModelInferRequest:
        message = pb.ModelInferRequest(model_name="dmvfn_image")
        for name, element in zip(("FRAME0", "FRAME1"), elements, strict=True):
            tensor = message.inputs.add(name=name, datatype="BYTES", shape=[1, 1], parameters=parameters)
            if is_raw:
                message.raw_input_contents.append(struct.pack("<I", len(element)) + element)
            else:
                tensor.contents.bytes_contents.append(element)
        return message

    base64_texts = pb.InferParameter(string_param="base64")
    async with served(SmallEngine()) as s:
        plain = await s.v2.ModelInfer(request(files))
        coded = await s.v2.ModelInfer(request(texts, content_type=base64_texts))
        with pytest.raises(grpc.aio.AioRpcError, match="FRAME0 is not base64"):
            await s.v2.ModelInfer(request(files, content_type=base64_texts))
    assert coded.raw_output_contents[0] == plain.raw_output_contents[0]


async def test_a_batchs_items_are_requests_of_their_own() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        await s.v2.ModelInfer(_infer(3), metadata=(("x-request-id", "r"),), timeout=60)
    assert [asked.id for asked in engine.asked] == ["r.0", "r.1", "r.2"]
    assert len({asked.deadline for asked in engine.asked}) == 1


async def test_one_failing_item_fails_the_request_with_its_index_and_withdraws_the_others() -> None:
    class Third(SmallEngine):
        """Refuses the third item, keeps the others waiting."""

        async def predict(self, request: Any) -> Any:
            if request.id.endswith(".2"):
                raise QueueFull("no room", retry_after=1.0)
            return await super().predict(request)

    engine = Third()
    engine.gate.clear()
    async with served(engine) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.v2.ModelInfer(_infer(3), metadata=(("x-request-id", "r"),))
        statistics = s.parts.infer_statistics.models["dmvfn"]
        assert (statistics.fail.count, statistics.success.count) == (1, 0)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == "item 2: no room"
    assert sorted(engine.withdrawn) == ["r.0", "r.1"]


async def test_the_timeout_parameter_and_the_deadline_bound_a_request_together() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        now = s.parts.clock()
        await s.v2.ModelInfer(_infer(timeout=pb.InferParameter(int64_param=50_000_000)))
        await s.v2.ModelInfer(_infer(timeout=pb.InferParameter(int64_param=500_000_000)), timeout=100)
    first, second = (asked.deadline for asked in engine.asked)
    assert first is not None
    assert second is not None
    assert now + 50 <= first < now + 100
    assert second <= now + 102


WRONG: dict[str, tuple[Callable[[Any], object], grpc.StatusCode]] = {
    "no model": (lambda r: setattr(r, "model_name", "x"), grpc.StatusCode.NOT_FOUND),
    "no version": (lambda r: setattr(r, "model_version", "7"), grpc.StatusCode.NOT_FOUND),
    "no inputs": (lambda r: r.ClearField("inputs"), grpc.StatusCode.INVALID_ARGUMENT),
    "raw and typed": (lambda r: r.inputs[0].contents.uint_contents.append(1), grpc.StatusCode.INVALID_ARGUMENT),
    "one raw too many": (lambda r: r.raw_input_contents.append(b""), grpc.StatusCode.INVALID_ARGUMENT),
    "wrong length": (lambda r: r.inputs[0].shape.__setitem__(2, 17), grpc.StatusCode.INVALID_ARGUMENT),
    "huge shape": (lambda r: r.inputs[0].shape.__setitem__(2, 2**62), grpc.StatusCode.INVALID_ARGUMENT),
    "unknown output": (lambda r: r.outputs.append(Output(name="X")), grpc.StatusCode.INVALID_ARGUMENT),
    "shared memory": (
        lambda r: r.inputs[0].parameters["shared_memory_region"].MergeFrom(pb.InferParameter(string_param="a")),
        grpc.StatusCode.UNIMPLEMENTED,
    ),
    "classification": (
        lambda r: r.outputs.append(
            Output(name="PRED", parameters={"classification": pb.InferParameter(int64_param=1)})
        ),
        grpc.StatusCode.UNIMPLEMENTED,
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_has_the_status_of_the_table(name: str) -> None:
    spoil, status = WRONG[name]
    request = _infer()
    spoil(request)
    async with served(SmallEngine()) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.v2.ModelInfer(request)
    assert refused.value.code() == status


@pytest.mark.parametrize(
    ("place", "elements"), [("int_contents", [1, 2]), ("fp32_contents", [1.0]), ("bytes_contents", [b"abc"])]
)
async def test_elements_in_another_type_s_place_are_told_where_they_belong(place: str, elements: list[Any]) -> None:
    """They counted as no elements at all, where the shape takes some."""
    request = _infer()
    request.ClearField("raw_input_contents")
    getattr(request.inputs[0].contents, place).extend(elements)
    async with served(SmallEngine()) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.v2.ModelInfer(request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == f"FRAMES is UINT8, whose elements stand in uint_contents, not in {place}"


async def test_an_empty_contents_message_beside_raw_data_is_nothing() -> None:
    """MLServer's client sends one with every raw tensor."""
    request = _infer()
    request.inputs[0].contents.SetInParent()
    assert request.inputs[0].HasField("contents")
    async with served(SmallEngine()) as s:
        answer = await s.v2.ModelInfer(request)
    assert answer.raw_output_contents[0] == _expected(1)


async def test_more_typed_elements_than_fit_are_refused_before_they_are_listed() -> None:
    request = _infer(typed=True)
    request.inputs[0].contents.uint_contents.extend([0] * MAX_TYPED)
    async with served(SmallEngine()) as s:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.v2.ModelInfer(request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "send it raw" in (refused.value.details() or "")


async def test_a_streams_errors_are_answers_with_their_id_and_the_stream_goes_on() -> None:
    wrong = _infer(id_="b")
    wrong.model_name = "x"
    async with served(SmallEngine()) as s:
        call = s.v2.ModelStreamInfer(iter([_infer(id_="a"), wrong, _infer(id_="c")]))
        answers = [answer async for answer in call]
    assert [(answer.infer_response.id, answer.error_message) for answer in answers] == [
        ("a", ""),
        ("b", "not_found: no model 'x'; there are dmvfn, dmvfn_image"),
        ("c", ""),
    ]
    assert answers[2].infer_response.raw_output_contents[0] == _expected(1)


async def test_a_stream_that_asks_for_statuses_gets_one_and_ends() -> None:
    wrong = _infer()
    wrong.model_name = "x"
    async with served(SmallEngine()) as s:
        call = s.v2.ModelStreamInfer(iter([wrong]), metadata=(("triton_grpc_error", "true"),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [answer async for answer in call]
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_streams_answers_keep_the_order_of_its_requests() -> None:
    class Backwards(SmallEngine):
        """Answers the first request last."""

        async def predict(self, request: Any) -> Any:
            if len(self.asked) == 0:
                self.gate.clear()
                return await super().predict(request)
            self.gate.set()
            return await super().predict(request)

    async with served(Backwards()) as s:
        call = s.v2.ModelStreamInfer(iter([_infer(id_=str(n)) for n in range(3)]))
        assert [answer.infer_response.id async for answer in call] == ["0", "1", "2"]


async def test_a_stream_reads_no_more_than_its_window_while_nothing_is_answered() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    async with served(engine) as s:
        call = s.v2.ModelStreamInfer(iter([_infer() for _ in range(60)]))
        async with asyncio.timeout(60):
            while engine.running < 17:
                await asyncio.sleep(0)
        seen = -1
        while seen != len(engine.asked):
            seen = len(engine.asked)
            for _ in range(200):
                await asyncio.sleep(0)
        assert seen <= 18
        engine.gate.set()
        assert len([answer async for answer in call]) == 60


async def test_a_draining_stream_answers_what_it_took_and_ends_with_an_error_that_says_so() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        idle, busy = s.v2.ModelStreamInfer(), s.v2.ModelStreamInfer()
        for stream in (idle, busy):
            await stream.write(_infer(id_="a"))
            assert (await stream.read()).infer_response.id == "a"
        engine.gate.clear()
        await busy.write(_infer(id_="b"))
        async with asyncio.timeout(60):
            while engine.running == 0:
                await asyncio.sleep(0)
        draining = asyncio.create_task(s.server.drain(30))
        assert (await idle.read()).error_message == "unavailable: the server is stopping"
        assert await idle.read() is grpc.aio.EOF
        engine.gate.set()
        assert (await busy.read()).infer_response.id == "b"
        assert (await busy.read()).error_message == "unavailable: the server is stopping"
        assert await busy.code() == grpc.StatusCode.OK
        await draining


async def test_leaving_a_stream_withdraws_what_is_under_way() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    async with served(engine) as s:
        call = s.v2.ModelStreamInfer(iter([_infer() for _ in range(3)]))
        async with asyncio.timeout(60):
            while engine.running < 3:
                await asyncio.sleep(0)
            call.cancel()
            while len(s.parts.streams):
                await asyncio.sleep(0)
    assert len(engine.withdrawn) == 3


async def test_streams_beyond_the_limit_are_refused() -> None:
    async with served(SmallEngine(), max_streams=1) as s:
        first = s.v2.ModelStreamInfer()
        await first.write(_infer())
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.v2.ModelStreamInfer(iter([_infer()])).read()
        first.cancel()
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_reads_no_more_than_one_body_while_nothing_is_answered() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    body = _infer().ByteSize()
    async with served(engine, max_body_bytes=3 * body) as s:
        call = s.v2.ModelStreamInfer(iter([_infer() for _ in range(12)]))
        async with asyncio.timeout(60):
            while engine.running < 3:
                await asyncio.sleep(0)
        for _ in range(500):
            await asyncio.sleep(0)
        assert engine.running == 3
        engine.gate.set()
        assert len([answer async for answer in call]) == 12


async def test_an_asked_for_final_mark_is_set() -> None:
    marked = _infer(triton_enable_empty_final_response=pb.InferParameter(bool_param=True))
    async with served(SmallEngine()) as s:
        [answer] = [a async for a in s.v2.ModelStreamInfer(iter([marked]))]
    assert answer.infer_response.parameters["triton_final_response"].bool_param


async def test_readiness_index_and_unoffered_calls() -> None:
    engine = SmallEngine()
    engine.state = Readiness(False, "starting")
    async with served(engine) as s:
        assert not (await s.v2.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await s.v2.ModelReady(pb.ModelReadyRequest(name="dmvfn"))).ready
        index = (await s.v2.RepositoryIndex(pb.RepositoryIndexRequest())).models
        assert [(m.name, m.state, m.reason) for m in index] == [
            ("dmvfn", "UNAVAILABLE", "starting"),
            ("dmvfn_image", "UNAVAILABLE", "starting"),
        ]
        assert not (await s.v2.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models
        for call in (
            s.v2.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="dmvfn")),
            s.v2.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="dmvfn")),
            s.v2.TraceSetting(pb.TraceSettingRequest()),
            s.v2.LogSettings(pb.LogSettingsRequest()),
            s.v2.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()),
            s.v2.SystemSharedMemoryRegister(pb.SystemSharedMemoryRegisterRequest()),
            s.v2.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest()),
            s.v2.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()),
            s.v2.CudaSharedMemoryRegister(pb.CudaSharedMemoryRegisterRequest()),
            s.v2.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
            # A sentence of ours, not grpc's own for a method that the generated class leaves out.
            assert "Method not implemented" not in str(refused.value.details())


async def test_statistics_count_what_was_asked() -> None:
    async with served(SmallEngine()) as s:
        await s.v2.ModelInfer(_infer(2))
        [one] = (await s.v2.ModelStatistics(pb.ModelStatisticsRequest(name="dmvfn"))).model_stats
        both = (await s.v2.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
    assert (one.name, one.version, one.inference_count, one.execution_count) == ("dmvfn", "1", 2, 2)
    assert (one.inference_stats.success.count, one.inference_stats.compute_infer.ns) == (1, 5_000_000)
    assert [model.name for model in both] == ["dmvfn", "dmvfn_image"]
