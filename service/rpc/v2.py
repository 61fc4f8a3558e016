"""The Open Inference Protocol over gRPC: its messages to `Infer` and back. What they mean is decided in `core.v2`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict

from proto.inference import inference_pb2 as pb
from proto.inference import inference_pb2_grpc
from service.core import v2_models
from service.core.errors import InvalidRequest, ServiceError, TooLarge, Unsupported
from service.core.v2 import Infer
from service.core.v2_tensors import MAX_TYPED, Tensor, refuse_shared_memory
from service.engine import v2
from service.engine.v2 import Caller, Inferred
from service.metrics import Transport
from service.parts import Parts
from service.rpc import errors
from service.rpc.door import Call, Door, readable
from service.rpc.release import RELEASE

NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
#: Requests of one stream under way at once; beyond them its messages wait unread.
STREAM_WINDOW = 16
#: Metadata by which a streaming client asks for real statuses instead of messages, ending the stream.
STRICT = "triton_grpc_error"
FIXED = "models cannot be loaded or unloaded while the service runs"
FINAL = "triton_enable_empty_final_response"

#: Where a datatype's typed contents are.
CONTENTS = {"UINT8": "uint_contents", "UINT64": "uint64_contents", "BYTES": "bytes_contents"}


Told = TypeVar("Told")


class InferenceService(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """The servicer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._door = Door(parts, Transport.V2_GRPC)

    async def ServerLive(self, message: Any, context: Any) -> pb.ServerLiveResponse:
        """Whoever answers is alive."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, message: Any, context: Any) -> pb.ServerReadyResponse:
        """Whether new work is taken."""
        return pb.ServerReadyResponse(ready=self._parts.engine.readiness().ready)

    async def ModelReady(self, message: Any, context: Any) -> pb.ModelReadyResponse:
        """The same, of a model that exists."""

        def answer(asked: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
            v2_models.known(asked.name, asked.version)
            return pb.ModelReadyResponse(ready=self._parts.engine.readiness().ready)

        return await self._told(message, context, "ModelReady", answer)

    async def ServerMetadata(self, message: Any, context: Any) -> pb.ServerMetadataResponse:
        """Name, release, and the extensions that work."""
        return await self._told(
            message,
            context,
            "ServerMetadata",
            lambda _: ParseDict(v2_models.server(RELEASE), pb.ServerMetadataResponse()),
        )

    async def ModelMetadata(self, message: Any, context: Any) -> pb.ModelMetadataResponse:
        """A model's tensors."""

        def answer(asked: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
            model = v2_models.known(asked.name, asked.version)
            return ParseDict(v2_models.metadata(model, self._parts.engine.model()), pb.ModelMetadataResponse())

        return await self._told(message, context, "ModelMetadata", answer)

    async def ModelConfig(self, message: Any, context: Any) -> pb.ModelConfigResponse:
        """A model's configuration."""

        def answer(asked: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
            settings = self._parts.settings
            config = v2_models.config(
                v2_models.known(asked.name, asked.version),
                self._parts.engine.model(),
                max_batch=settings.max_batch,
                max_queue=settings.max_queue_items,
                timeout_ms=settings.default_deadline_ms,
            )
            return ParseDict({"config": config}, pb.ModelConfigResponse())

        return await self._told(message, context, "ModelConfig", answer)

    async def ModelStatistics(self, message: Any, context: Any) -> pb.ModelStatisticsResponse:
        """What has been asked of a model, or of all."""

        def answer(asked: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
            if asked.name:
                v2_models.known(asked.name, asked.version)
            return ParseDict({"model_stats": self._parts.usage.shown(asked.name)}, pb.ModelStatisticsResponse())

        return await self._told(message, context, "ModelStatistics", answer)

    async def RepositoryIndex(self, message: Any, context: Any) -> pb.RepositoryIndexResponse:
        """Both models and their state."""

        def answer(asked: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
            state = self._parts.engine.readiness()
            index = v2_models.index(ready=state.ready, reason=state.reason, only_ready=asked.ready)
            return ParseDict({"models": index}, pb.RepositoryIndexResponse())

        return await self._told(message, context, "RepositoryIndex", answer)

    async def ModelInfer(self, message: Any, context: Any) -> pb.ModelInferResponse:
        """One batch."""
        async with self._door.call(context, "ModelInfer", getattr(message, "id", "")) as call:
            return response(await v2.infer(self._parts, request(readable(message)), _caller(call)))
        raise AssertionError("the door lets no error through")

    async def ModelStreamInfer(self, messages: AsyncIterator[Any], context: Any) -> None:
        """Batches, answered in their order; an error is an answer, and the stream goes on."""
        async with self._door.call(context, "ModelStreamInfer", counts=False) as call:
            strict = (value == "true" for key, value in context.invocation_metadata() or () if key == STRICT)
            await self._stream(messages, call, strict=any(strict))

    async def RepositoryModelLoad(self, message: Any, context: Any) -> Any:
        """Not offered: models are those the service started with."""
        return await self._unoffered(
            context, "RepositoryModelLoad", "models cannot be loaded or unloaded while running"
        )

    async def RepositoryModelUnload(self, message: Any, context: Any) -> Any:
        """Not offered."""
        return await self._unoffered(context, "RepositoryModelUnload", FIXED)

    async def TraceSetting(self, message: Any, context: Any) -> Any:
        """Not offered: traces are set up by the service's settings."""
        return await self._unoffered(context, "TraceSetting", "tracing is set up by the service's settings")

    async def LogSettings(self, message: Any, context: Any) -> Any:
        """Not offered."""
        return await self._unoffered(context, "LogSettings", "logging is set up by the service's settings")

    # Shared memory: the generated base class answers UNIMPLEMENTED.

    async def _told(self, message: Any, context: Any, endpoint: str, answer: Callable[[Any], Told]) -> Told:
        async with self._door.call(context, endpoint):
            return answer(readable(message))
        raise AssertionError("the door lets no error through")

    async def _unoffered(self, context: Any, endpoint: str, why: str) -> None:
        async with self._door.call(context, endpoint):
            raise Unsupported(why)

    async def _stream(self, messages: AsyncIterator[Any], call: Call, *, strict: bool) -> None:
        under_way: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue(STREAM_WINDOW)
        tasks: set[asyncio.Task[Any]] = set()

        def begin(work: Awaitable[Any]) -> asyncio.Task[Any]:
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return task

        async def read() -> None:
            async for message in messages:
                # Bounded: with enough under way this waits, and HTTP/2 makes the client wait.
                await under_way.put(begin(self._streamed(message, call, strict=strict)))
            await under_way.put(None)

        reader = begin(read())
        try:
            while (task := await under_way.get()) is not None:
                await call.context.write(await task)
        finally:
            reader.cancel()
            for task in [*tasks]:
                task.cancel()
            await asyncio.gather(reader, *tasks, return_exceptions=True)

    async def _streamed(self, message: Any, call: Call, *, strict: bool) -> pb.ModelStreamInferResponse:
        try:
            asked = readable(message)
            answer = await v2.infer(self._parts, request(asked), _caller(call))
            final = FINAL in asked.parameters and asked.parameters[FINAL].bool_param
            return pb.ModelStreamInferResponse(infer_response=response(v2.ready_parameters(answer, final=final)))
        except ServiceError as error:
            if strict:
                raise
            # Clients drop everything but the message; those that do not find the id.
            return pb.ModelStreamInferResponse(
                error_message=f"{error.code}: {errors.text(error)}",
                infer_response=pb.ModelInferResponse(id=getattr(message, "id", "")),
            )


def _caller(call: Call) -> Caller:
    return Caller(call.request_id, call.client, call.ends, call.traceparent)


def request(message: pb.ModelInferRequest) -> Infer:
    """The request's meaning. Tensors must all be raw or all be typed."""
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest(
            f"there are {len(raw)} raw contents for {len(message.inputs)} inputs", field="raw_input_contents"
        )
    return Infer(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=_values(message.parameters),
        inputs=tuple(_tensor(tensor, raw[n] if raw else None) for n, tensor in enumerate(message.inputs)),
        outputs=tuple(_output(output) for output in message.outputs),
    )


def response(answer: Inferred) -> pb.ModelInferResponse:
    """The answer's message: every output raw, in order, as stock clients expect."""
    made = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, value in answer.parameters.items():
        if isinstance(value, bool):
            made.parameters[name].bool_param = value
        else:
            made.parameters[name].string_param = value
    for tensor in answer.outputs:
        made.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        assert isinstance(tensor.data, bytes)
        made.raw_output_contents.append(tensor.data)
    return made


def _tensor(message: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    field = f"inputs.{message.name[:80]}"
    refuse_shared_memory(_values(message.parameters), field)
    shape = tuple(message.shape)
    if raw is not None:
        if message.HasField("contents"):
            raise InvalidRequest(f"{message.name[:80]} is given raw and typed", field=field)
        return Tensor(message.name, message.datatype, shape, raw)
    kind = CONTENTS.get(message.datatype)
    contents = getattr(message.contents, kind) if kind else []
    # Before the list is made: sixty megabytes of small numbers would become gigabytes of Python's.
    if len(contents) > MAX_TYPED:
        raise TooLarge(f"{message.name[:80]} has more than {MAX_TYPED} elements; send it raw", field=field)
    return Tensor(message.name, message.datatype, shape, list(contents))


def _output(message: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    given = _values(message.parameters)
    refuse_shared_memory(given, f"outputs.{message.name[:80]}")
    if given.get("classification"):
        raise Unsupported("classification is not offered: no output is a class", field=f"outputs.{message.name[:80]}")
    return message.name


def _values(parameters: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, kind) for name, value, kind in chosen if kind}
