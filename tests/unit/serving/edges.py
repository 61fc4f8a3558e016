"""Every way to ask for a prediction, around one real tiny network: each edge as a function of the same pair."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import uvicorn
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from model import checkpoint
from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2, inference_pb2_grpc
from service.app_state import AppState
from service.cli import predict as cli
from service.core.interfaces import Readiness, ServedModel
from service.core.types import PredictRequest, PredictResult
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.imaging.codec import FrameLimits
from service.imaging.codec_pool import Codecs
from service.rest.app import build
from service.rest.formats import stream_messages
from service.rest.routes import oip, stream
from service.rpc import server as rpc
from service.serving.jobs.local import LocalJobs
from service.serving.oip.tensors import pack
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.engine import tiny
from tests.unit.imaging.pictures import file_of

#: A version of weights that neither ASCII nor Latin-1 can spell.
VERSION = "модель-七"
#: What a test asks by the edges' names.
EDGES = ("rest", "rpc", "rpc_stream", "websocket", "oip_rest", "oip_rpc", "job", "cli")


class ServiceClock:
    """The clock deadlines live on. `skip` goes ahead; while `leap` is set, every reading does by as much, seconds."""

    def __init__(self) -> None:
        self.ahead, self.leap = 0.0, 0.0

    def __call__(self) -> float:
        self.ahead += self.leap
        return time.monotonic() + self.ahead

    def skip(self, seconds: float) -> None:
        self.ahead += seconds


class WatchedEngine:
    """The real engine; `answered` is called between its answer and whoever asked. Counts what reaches it."""

    def __init__(self, engine: Batcher) -> None:
        self._engine = engine
        self.answered: Callable[[], None] = lambda: None
        self.requests: list[PredictRequest] = []
        self.not_ready: Readiness | None = None

    async def predict(self, request: PredictRequest) -> PredictResult:
        self.requests.append(request)
        result = await self._engine.predict(request)
        self.answered()
        return result

    def readiness(self) -> Readiness:
        return self.not_ready or self._engine.readiness()

    def model(self) -> ServedModel:
        return self._engine.model()


@dataclass(frozen=True, slots=True)
class Reply:
    """What an edge answered: a PNG, its route and seed; or an error's code. `method` where the edge says it."""

    picture: bytes = b""
    route: str = ""
    seed: int | None = None
    model: str = ""
    error: str = ""
    method: str | None = field(default=None, compare=False)


@dataclass
class Edges:
    """The running service, and one method for each edge; `previous` and `current` are PNG files."""

    state: AppState
    engine: WatchedEngine
    clock: ServiceClock
    http: httpx.AsyncClient
    channel: Any
    url: str
    folder: Path
    previous: bytes
    current: bytes
    method: str | None = None  #: asked for in place of a route and a seed
    t: float | None = None  #: the moment asked for, if any
    quality: str | None = None  #: asked for in place of a method, a route and a seed
    scale: float | None = None  #: asked for beside a quality

    async def ask(self, edge: str, route: str = "sample", seed: int | None = 7) -> Reply:
        method: Callable[[str, int | None], Awaitable[Reply]] = getattr(self, f"_{edge}")
        async with asyncio.timeout(60):
            return await method(route, seed)

    def late(self, phase: str) -> float:
        name = "dmvfn_deadline_missed_total"
        return self.state.metrics.registry.get_sample_value(name, {"phase": phase}) or 0.0

    @property
    def _takes_seed(self) -> bool:
        return self.method is None and self.quality is None

    def _params(self, route: str, seed: int | None) -> dict[str, str]:
        moment = {} if self.t is None else {"t": str(self.t)}
        if self.quality is not None:
            return {"quality": self.quality} | ({} if self.scale is None else {"scale": str(self.scale)}) | moment
        if self.method is not None:
            return {"method": self.method} | moment
        return moment | {"route": route} | ({} if seed is None else {"seed": str(seed)})

    async def _rest(self, route: str, seed: int | None) -> Reply:
        files = {"previous": self.previous, "current": self.current}
        answer = await self.http.post("/v1/predict", files=files, params=self._params(route, seed))
        return self._of_http(answer)

    async def _job(self, route: str, seed: int | None) -> Reply:
        files = {"previous": self.previous, "current": self.current}
        answer = await self.http.post("/v1/jobs", files=files, params=self._params(route, seed))
        if answer.is_error:
            return self._of_http(answer)
        links = answer.json()["links"]
        while (await self.http.get(links["self"], params={"wait": 5})).json()["state"] in ("queued", "running"):
            pass
        return self._of_http(await self.http.get(links["result"], headers={"Accept": "image/png"}))

    @staticmethod
    def _of_http(answer: httpx.Response) -> Reply:
        if answer.is_error:
            return Reply(error=answer.json()["code"])
        headers = answer.headers
        seed = headers.get("x-dmvfn-seed")
        model = headers["x-dmvfn-model"].encode().decode("unicode_escape")
        drawn = None if seed is None else int(seed)
        return Reply(answer.content, headers["x-dmvfn-route"], drawn, model, method=headers["x-dmvfn-method"])

    def _options(self, route: str, seed: int | None) -> pb.Options:
        moments = [] if self.t is None else [self.t]
        if self.quality is not None:
            quality = f"QUALITY_{self.quality.upper()}"
            return pb.Options(quality=quality, scale=self.scale, encoding=pb.ENCODING_PNG, t=moments)
        if self.method is not None:
            return pb.Options(method=self.method, encoding=pb.ENCODING_PNG, t=moments)
        options = pb.Options(route=route, encoding=pb.ENCODING_PNG, t=moments)
        if seed is not None:
            options.seed = seed
        return options

    async def _rpc(self, route: str, seed: int | None) -> Reply:
        stub = dmvfn_pb2_grpc.PredictionServiceStub(self.channel)  # type: ignore[no-untyped-call]
        previous, current = pb.Frame(encoded=self.previous), pb.Frame(encoded=self.current)
        request = pb.PredictRequest(previous=previous, current=current, options=self._options(route, seed))
        try:
            return self._of_message((await stub.Predict(request)).prediction)
        except grpc.aio.AioRpcError as error:
            return Reply(error=error.code().name.lower())

    async def _rpc_stream(self, route: str, seed: int | None) -> Reply:
        stub = dmvfn_pb2_grpc.PredictionServiceStub(self.channel)  # type: ignore[no-untyped-call]
        start = pb.StreamStart(options=self._options(route, seed), scene_cuts=False)
        messages = [pb.StreamPredictRequest(start=start)]
        messages += [pb.StreamPredictRequest(frame=pb.Frame(encoded=file)) for file in (self.previous, self.current)]
        try:
            *_, last = [answer async for answer in stub.StreamPredict(iter(messages))]
        except grpc.aio.AioRpcError as error:
            # grpc.aio's client, where the stream is refused while it writes a frame (one in some 600): ask again.
            if error.details() == "Internal error from Core":
                return await self._rpc_stream(route, seed)
            return Reply(error=error.code().name.lower())
        return Reply(error=last.error.code) if last.HasField("error") else self._of_message(last.prediction)

    @staticmethod
    def _of_message(prediction: pb.Prediction) -> Reply:
        [frame] = prediction.frames
        seed = prediction.seed if prediction.HasField("seed") else None
        return Reply(frame.encoded, frame.route, seed, prediction.model_version, method=prediction.method)

    async def _websocket(self, route: str, seed: int | None) -> Reply:
        start: dict[str, Any] = {"type": "start", "format": "png", "scene_cuts": False, **self._params(route, None)}
        if seed is not None and self._takes_seed:
            start["seed"] = seed
        if self.scale is not None:
            start["scale"] = self.scale
        async with connect(self.url, max_size=None, compression=None) as websocket:
            await websocket.send(json.dumps(start))
            for file in (self.previous, self.current):
                await websocket.send(stream_messages.packed({"type": "frame"}, file))
            await websocket.send(json.dumps({"type": "end"}))
            messages: list[str | bytes] = []
            with suppress(ConnectionClosed):  # after a refusal
                async for message in websocket:
                    messages.append(message)
            last = messages[-1]
        if isinstance(last, str):
            return Reply(error=json.loads(last)["code"])
        size = int.from_bytes(last[:4], "little")
        header = json.loads(last[4 : 4 + size])
        bits, seed, model = header["frames"][0]["route"], header.get("seed"), header["model_version"]
        return Reply(last[4 + size :], bits, seed, model, method=header["method"])

    async def _oip_rest(self, route: str, seed: int | None) -> Reply:
        tensor = {"datatype": "BYTES", "shape": [1, 1]}
        inputs: list[dict[str, Any]] = [
            {"name": f"FRAME{n}", **tensor, "parameters": {"binary_data_size": 4 + len(file)}}
            for n, file in enumerate((self.previous, self.current))
        ]
        if seed is not None and self._takes_seed:
            inputs.append({"name": "SEED", "datatype": "UINT64", "shape": [1, 1], "data": [seed]})
        head = json.dumps(
            {
                "inputs": inputs,
                "parameters": {**self._params(route, None), "binary_data_output": True},
                "outputs": [{"name": "PRED", "parameters": {"binary_data": True}}, {"name": "ROUTE"}],
            }
        ).encode()
        content = head + pack([self.previous]) + pack([self.current])
        length = {"Inference-Header-Content-Length": str(len(head))}
        answer = await self.http.post("/v2/models/dmvfn_image/infer", content=content, headers=length)
        if answer.is_error:
            return Reply(error=answer.json()["code"])
        size = int(answer.headers["inference-header-content-length"])
        document = json.loads(answer.content[:size])
        picture_size = document["outputs"][0]["parameters"]["binary_data_size"]
        picture = answer.content[size : size + picture_size][4:]
        route_bits = answer.content[size + picture_size :] or bytes(document["outputs"][1]["data"])
        drawn = document["parameters"].get("seed")
        bits = "".join(map(str, route_bits))
        return Reply(picture, bits, None if drawn is None else int(drawn), document["parameters"]["weights"])

    async def _oip_rpc(self, route: str, seed: int | None) -> Reply:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(self.channel)  # type: ignore[no-untyped-call]
        request = inference_pb2.ModelInferRequest(model_name="dmvfn_image")
        for name, value in self._params(route, None).items():
            request.parameters[name].string_param = value
        for n, file in enumerate((self.previous, self.current)):
            request.inputs.add(name=f"FRAME{n}", datatype="BYTES", shape=[1, 1])
            request.raw_input_contents.append(pack([file]))
        if seed is not None and self._takes_seed:
            request.inputs.add(name="SEED", datatype="UINT64", shape=[1, 1])
            request.raw_input_contents.append(seed.to_bytes(8, "little"))
        try:
            answer = await stub.ModelInfer(request)
        except grpc.aio.AioRpcError as error:
            return Reply(error=error.code().name.lower())
        tensors = {output.name: raw for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}
        drawn = answer.parameters["seed"].string_param
        bits = "".join(map(str, tensors["ROUTE"]))
        return Reply(
            tensors["PRED"][4:], bits, int(drawn) if drawn else None, answer.parameters["weights"].string_param
        )

    async def _cli(self, route: str, seed: int | None) -> Reply:
        output = self.folder / "next.png"
        arguments = [str(self.folder / "previous.png"), str(self.folder / "current.png"), "-o", str(output), "--force"]
        arguments += [word for name, value in self._params(route, seed).items() for word in (f"--{name}", value)]
        text, errors = io.StringIO(), io.StringIO()

        def main() -> int:
            with redirect_stdout(text), redirect_stderr(errors):
                return cli.main(arguments, self.state.settings)

        if await asyncio.to_thread(main):
            return Reply(error=errors.getvalue())
        first, *more = text.getvalue().splitlines()
        drawn = next((int(line.split()[1]) for line in more if line.startswith("seed ")), None)
        kind, value = first.split()[1:3]
        if kind == "method":
            return Reply(output.read_bytes(), "0" * 9, drawn, VERSION, method=value)
        return Reply(output.read_bytes(), value, drawn, VERSION)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Edges]:
    """Run REST, WebSocket, gRPC, both inference protocols and jobs over one engine, for the length of a test."""
    network = tiny.network()
    checkpoint.save(network, folder / "tiny.safetensors", checkpoint.Metadata(VERSION, config=network.config))
    previous, current = (file_of(frame.pixels, "PNG") for frame in tiny.frames(3, 32, 48))
    (folder / "previous.png").write_bytes(previous)
    (folder / "current.png").write_bytes(current)
    settings = Settings(
        weights=folder / "tiny.safetensors", warmup_sizes=((32, 48),), threads=1, device="cpu", grpc_port=0
    )
    metrics, clock = Metrics(CollectorRegistry()), ServiceClock()
    batcher = Batcher(lambda: Predictor.of(settings), settings, metrics)
    engine = WatchedEngine(batcher)
    codecs = Codecs(FrameLimits.of(settings), 2, metrics)
    state = AppState(settings, engine, codecs, metrics, clock)
    jobs = LocalJobs(settings, engine, metrics)
    await batcher.start()
    app = build(state, [oip.router(state), stream.router(state)], jobs=jobs)
    served = await rpc.start(state, None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        web = uvicorn.Server(config)
        serving = asyncio.ensure_future(web._serve([listener]))
        while not web.started:
            await asyncio.sleep(0.002)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with (
                httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as http,
                grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel,
            ):
                yield Edges(state, engine, clock, http, channel, f"ws://{address}/v1/stream", folder, previous, current)
        finally:
            web.should_exit = True
            await serving
            await served.drain(0)
            await jobs.close()
            await batcher.close()
            codecs.close()
