"""Tries what KServe's own clients can ask. Run by their Python: kserve_calls.py HTTP GRPC FOLDER."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.system.clients.attempts import Attempts


class Session:
    """One client of each transport, on one event loop."""

    def __init__(self, http: str, grpc: str, folder: str) -> None:
        self.attempts = Attempts("kserve", folder)
        self.url = f"http://{http}"
        self.rest = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60, retries=0))
        self.grpc = InferenceGRPCClient(grpc, timeout=60, retries=0)

    def request(
        self, *, binary: bool, model: str = "dmvfn", steps: int = 1, binary_out: bool | None = None
    ) -> InferRequest:
        """One pair as a tensor; `binary` sends it behind the JSON, `binary_out` asks for the answer so."""
        tensor = InferInput("FRAMES", list(self.attempts.frames.shape), "UINT8")
        tensor.set_data_from_numpy(self.attempts.frames, binary_data=binary)
        outputs = None if binary_out is None else [RequestedOutput("PRED", {"binary_data": binary_out})]
        options = {"blocks": 3, "steps": steps}
        return InferRequest(model, [tensor], request_id="k", parameters=options, request_outputs=outputs)

    async def over_rest(self, request: InferRequest) -> np.ndarray:
        """The prediction over REST."""
        answer = await self.rest.infer(self.url, request, model_name=request.model_name)
        return next(output for output in answer.outputs if output.name == "PRED").as_numpy()  # type: ignore[no-any-return]

    async def over_grpc(self, request: InferRequest) -> np.ndarray:
        """The prediction over gRPC."""
        answer = await self.grpc.infer(request)
        return next(output for output in answer.outputs if output.name == "PRED").as_numpy()  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close both."""
        await self.rest.close()
        await self.grpc.close()


def calls(session: Session) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    """Everything that must be answered."""
    rest, grpc, url = session.rest, session.grpc, session.url
    return [
        ("REST is_server_live", lambda: rest.is_server_live(url)),
        ("REST is_server_ready", lambda: rest.is_server_ready(url)),
        ("REST is_model_ready", lambda: rest.is_model_ready(url, "dmvfn")),
        ("REST infer, JSON", lambda: session.over_rest(session.request(binary=False))),
        ("REST infer, binary", lambda: session.over_rest(session.request(binary=True))),
        ("REST infer, binary both ways", lambda: session.over_rest(session.request(binary=True, binary_out=True))),
        ("REST infer, JSON asked back", lambda: session.over_rest(session.request(binary=True, binary_out=False))),
        ("gRPC is_server_live", grpc.is_server_live),
        ("gRPC is_server_ready", grpc.is_server_ready),
        ("gRPC is_model_ready", lambda: grpc.is_model_ready("dmvfn")),
        ("gRPC infer, typed", lambda: session.over_grpc(session.request(binary=False))),
        ("gRPC infer, raw", lambda: session.over_grpc(session.request(binary=True))),
    ]


def main(http: str, grpc: str, folder: str) -> None:
    """Everything, one after the other."""
    with asyncio.Runner() as runner:

        async def opened() -> Session:
            return Session(http, grpc, folder)

        session = runner.run(opened())
        for call, ask in calls(session):
            session.attempts.tried(call, lambda ask=ask: runner.run(_awaited(ask)))  # type: ignore[misc]
        session.attempts.refused(
            "REST infer, steps=99",
            lambda: runner.run(session.over_rest(session.request(binary=True, steps=99))),
            "steps must be between",
        )
        session.attempts.refused(
            "gRPC infer, steps=99",
            lambda: runner.run(session.over_grpc(session.request(binary=True, steps=99))),
            "steps must be between",
        )
        runner.run(session.close())


async def _awaited(ask: Callable[[], Awaitable[object]]) -> object:
    return await ask()


if __name__ == "__main__":
    main(*sys.argv[1:])
