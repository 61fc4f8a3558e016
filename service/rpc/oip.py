"""The Open Inference Protocol over gRPC: every method its stock clients call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict

from proto.inference import inference_pb2 as pb
from proto.inference import inference_pb2_grpc
from service.app_state import AppState
from service.core.errors import Unsupported
from service.rpc.call import CallHandler, readable
from service.rpc.oip_messages import request, response, values
from service.rpc.oip_stream import InferStream
from service.serving.oip import control
from service.serving.oip import infer as oip_infer
from service.serving.oip import models as oip_models
from service.serving.oip.served_versions import ServedVersions
from service.serving.prediction import Caller
from service.telemetry.metrics import Transport
from service.telemetry.tracing import Tracer
from service.version import RELEASE

NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

#: Why the six calls of shared memory are refused.
NO_SHARED_MEMORY = "shared memory is not offered; send the data"

Told = TypeVar("Told")


class InferenceService(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """The methods of the service, one for each call of its contract."""

    def __init__(self, state: AppState, tracer: Tracer | None = None) -> None:
        self._state = state
        self._handler = CallHandler(state, Transport.V2_GRPC, NAME, tracer)

    async def ServerLive(self, message: Any, context: Any) -> pb.ServerLiveResponse:
        """Answer that the server lives: whoever answers is alive."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, message: Any, context: Any) -> pb.ServerReadyResponse:
        """Tell whether new work is taken."""
        return pb.ServerReadyResponse(ready=self._state.engine.readiness().ready)

    async def ModelReady(self, message: Any, context: Any) -> pb.ModelReadyResponse:
        """Tell whether new work is taken, of a model that exists."""

        def answer(request_message: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
            versions = ServedVersions.of(self._state)
            versions.find_model(request_message.name, request_message.version)
            ready = self._state.engine.readiness().ready and versions.is_ready(request_message.version)
            return pb.ModelReadyResponse(ready=ready)

        return await self._told(message, context, "ModelReady", answer)

    async def ServerMetadata(self, message: Any, context: Any) -> pb.ServerMetadataResponse:
        """Return name, release, and the extensions that work."""
        return await self._told(
            message,
            context,
            "ServerMetadata",
            lambda _: ParseDict(
                oip_models.server(RELEASE, can_load=control.is_offered(self._state)),
                pb.ServerMetadataResponse(),
            ),
        )

    async def ModelMetadata(self, message: Any, context: Any) -> pb.ModelMetadataResponse:
        """Describe a model's tensors."""

        def answer(request_message: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
            versions, version = ServedVersions.of(self._state), request_message.version
            model = versions.find_model(request_message.name, version)
            document = oip_models.metadata(model, versions.model(version), versions.names)
            return ParseDict(document, pb.ModelMetadataResponse())

        return await self._told(message, context, "ModelMetadata", answer)

    async def ModelConfig(self, message: Any, context: Any) -> pb.ModelConfigResponse:
        """Return a model's configuration."""

        def answer(request_message: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
            settings, versions = self._state.settings, ServedVersions.of(self._state)
            config = oip_models.config(
                versions.find_model(request_message.name, request_message.version),
                versions.model(request_message.version),
                max_batch=settings.max_batch,
                max_queue=settings.max_queue_items,
                timeout_ms=settings.default_deadline_ms,
            )
            return ParseDict({"config": config}, pb.ModelConfigResponse())

        return await self._told(message, context, "ModelConfig", answer)

    async def ModelStatistics(self, message: Any, context: Any) -> pb.ModelStatisticsResponse:
        """Count what has been asked of a model, or of all."""

        def answer(request_message: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
            if request_message.name:
                ServedVersions.of(self._state).find_model(request_message.name, request_message.version)
            return ParseDict(
                {"model_stats": self._state.infer_statistics.documents(request_message.name)},
                pb.ModelStatisticsResponse(),
            )

        return await self._told(message, context, "ModelStatistics", answer)

    async def RepositoryIndex(self, message: Any, context: Any) -> pb.RepositoryIndexResponse:
        """List both models, their versions and state."""
        async with self._handler.call(context, "RepositoryIndex"):
            rows = await control.index(self._state, only_ready=readable(message).ready)
            return ParseDict({"models": rows}, pb.RepositoryIndexResponse())
        raise AssertionError("the handler lets no error through")

    async def ModelInfer(self, message: Any, context: Any) -> pb.ModelInferResponse:
        """Predict one batch."""
        async with self._handler.call(context, "ModelInfer", getattr(message, "id", "")) as call:
            caller = Caller.of(call, call.deadline, call.holding)
            answer = await oip_infer.infer(self._state, request(readable(message)), caller)
            answer.slowest.report(call)
            return response(answer)
        raise AssertionError("the handler lets no error through")

    async def ModelStreamInfer(self, messages: AsyncIterator[Any], context: Any) -> None:
        """Predict batches, answered in their order; an error is an answer, and the stream goes on."""
        async with self._handler.call(context, "ModelStreamInfer", counts=False) as call:
            await InferStream(self._state, self._handler, call).run(messages)

    async def RepositoryModelLoad(self, message: Any, context: Any) -> Any:
        """Load a version of the weights, for who may."""
        async with self._handler.call(context, "RepositoryModelLoad") as call:
            body: pb.RepositoryModelLoadRequest = readable(message)
            await control.load(self._state, call.client, body.model_name, values(body.parameters))
            return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, message: Any, context: Any) -> Any:
        """Unload a version of the weights, for who may."""
        async with self._handler.call(context, "RepositoryModelUnload") as call:
            body: pb.RepositoryModelUnloadRequest = readable(message)
            await control.unload(self._state, call.client, body.model_name, values(body.parameters))
            return pb.RepositoryModelUnloadResponse()

    async def TraceSetting(self, message: Any, context: Any) -> Any:
        """Refuse: traces are set up by the service's settings."""
        return await self._unoffered(context, "TraceSetting", "tracing is set up by the service's settings")

    async def LogSettings(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "LogSettings", "logging is set up by the service's settings")

    async def SystemSharedMemoryStatus(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "SystemSharedMemoryStatus", NO_SHARED_MEMORY)

    async def SystemSharedMemoryRegister(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "SystemSharedMemoryRegister", NO_SHARED_MEMORY)

    async def SystemSharedMemoryUnregister(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "SystemSharedMemoryUnregister", NO_SHARED_MEMORY)

    async def CudaSharedMemoryStatus(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "CudaSharedMemoryStatus", NO_SHARED_MEMORY)

    async def CudaSharedMemoryRegister(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "CudaSharedMemoryRegister", NO_SHARED_MEMORY)

    async def CudaSharedMemoryUnregister(self, message: Any, context: Any) -> Any:
        """Refuse: this is not offered."""
        return await self._unoffered(context, "CudaSharedMemoryUnregister", NO_SHARED_MEMORY)

    async def _told(self, message: Any, context: Any, endpoint: str, answer: Callable[[Any], Told]) -> Told:
        async with self._handler.call(context, endpoint):
            return answer(readable(message))
        raise AssertionError("the handler lets no error through")

    async def _unoffered(self, context: Any, endpoint: str, why: str) -> None:
        async with self._handler.call(context, endpoint):
            raise Unsupported(why)
