"""What the way over Redis costs: the same calls to the same tiny network, embedded and through a private server.

`python -m benchmarks.redis_overhead --calls 200` prints medians and 99th percentiles in milliseconds. Both run in this
one process on one machine, so what is added is Redis, msgpack and the hops, and no network.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from service.core.types import Frame, PredictRequest, PredictResult
from service.distributed.frontend.backend import FrontendEngine
from service.distributed.worker.worker import Worker
from service.engine.batcher import Batcher
from service.engine.predictor import Predictor
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.unit.distributed.engines import Adder
from tests.unit.distributed.servers import Server, running

SIZES = ((64, 64), (256, 448), (720, 1280))

Predict = Callable[[PredictRequest], Awaitable[PredictResult]]


def request(number: int, height: int, width: int) -> PredictRequest:
    """A pair of noise: its bytes count here, not what it shows."""
    pixels = np.random.default_rng(number).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    return PredictRequest(str(number), Frame(pixels[0].copy()), Frame(pixels[1].copy()))


async def one_by_one(predict: Predict, requests: list[PredictRequest]) -> NDArray[np.float64]:
    """Milliseconds of each."""
    took = []
    for asked in requests:
        began = time.perf_counter()
        await predict(asked)
        took.append(1000 * (time.perf_counter() - began))
    return np.array(took)


async def at_once(predict: Predict, requests: list[PredictRequest], width: int) -> float:
    """Calls a second with `width` of them under way."""
    gate = asyncio.Semaphore(width)

    async def one(asked: PredictRequest) -> None:
        async with gate:
            await predict(asked)

    began = time.perf_counter()
    await asyncio.gather(*map(one, requests))
    return len(requests) / (time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Alone:
    """The way over Redis by itself, milliseconds: clock time, and CPU time of both clients and of the server."""

    p50: float
    p99: float
    clients: float
    server: float


async def alone(height: int, width: int, calls: int) -> Alone:
    """What the way takes where the engine answers at once: no device to wait for, nothing to hide behind."""
    with running() as server:
        settings = Settings(redis_url=server.url)
        worker = Worker(settings, Adder(), Metrics(CollectorRegistry()))
        working = asyncio.create_task(worker.run())
        remote = FrontendEngine(settings, Metrics(CollectorRegistry()))
        await remote.start()
        requests = [request(k, height, width) for k in range(calls)]
        await one_by_one(remote.predict, requests[:3])
        # CPU time tells more than the clock where the machine is busy with other things.
        began, served = time.process_time(), server_seconds(server)
        took = await one_by_one(remote.predict, requests)
        clients, servers = time.process_time() - began, server_seconds(server) - served
        worker.stop()
        await working
        await remote.close()
    p50, p99 = np.percentile(took, [50, 99])
    return Alone(float(p50), float(p99), 1000 * clients / calls, 1000 * servers / calls)


def server_seconds(server: Server) -> float:
    """Processor time the server has used."""
    client = server.client()
    cpu = client.info("cpu")
    client.close()
    return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])


async def way_alone(calls: int) -> None:
    """Prints it for each size."""
    print("frames        the way alone, ms (p50 p99)   CPU ms a call: front end and worker together, server")
    for height, width in SIZES:
        found = await alone(height, width, min(calls, 4000 * 4096 // (height * width)))
        print(
            f"{height:4}x{width:<6} {found.p50:20.2f} {found.p99:8.2f} {found.clients:16.2f} {found.server:16.2f}",
            flush=True,
        )


async def measure(calls: int) -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    with running() as server:
        settings = Settings(redis_url=server.url, warmup_sizes=SIZES)
        metrics = Metrics(CollectorRegistry())
        network = DMVFN(ModelConfig.tiny())
        engine = Batcher(lambda: Predictor(network, device="cpu", threads=1), settings, metrics)
        await engine.start()
        worker = Worker(settings, engine, Metrics(CollectorRegistry()))
        working = asyncio.create_task(worker.run())
        remote = FrontendEngine(settings, Metrics(CollectorRegistry()))
        await remote.start()
        print("frames        embedded ms (p50 p99)   redis ms (p50 p99)   added ms  ratio   calls/s embedded  redis")
        for height, width in SIZES:
            requests = [request(k, height, width) for k in range(min(calls, 4000 * 4096 // (height * width)))]
            await one_by_one(remote.predict, requests[:3])
            # In turns, so that a noisy neighbour disturbs both alike.
            halves = [requests[: len(requests) // 2], requests[len(requests) // 2 :]]
            local = [await one_by_one(engine.predict, halves[0])]
            far = [await one_by_one(remote.predict, half) for half in halves]
            local.append(await one_by_one(engine.predict, halves[1]))
            a, b = np.concatenate(local), np.concatenate(far)
            p, q = np.percentile(a, [50, 99]), np.percentile(b, [50, 99])
            rates = [await at_once(predict, requests, 8) for predict in (engine.predict, remote.predict)]
            print(
                f"{height:4}x{width:<6} {p[0]:14.2f} {p[1]:8.2f} {q[0]:12.2f} {q[1]:8.2f} {q[0] - p[0]:10.2f} "
                f"{q[0] / p[0]:6.2f} {rates[0]:14.1f} {rates[1]:8.1f}",
                flush=True,
            )
        worker.stop()
        await working
        await remote.close()
        await engine.close()


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--alone", action="store_true", help="only the way, with an engine that answers at once")
    given = parser.parse_args()
    asyncio.run((way_alone if given.alone else measure)(given.calls))


if __name__ == "__main__":
    main()
