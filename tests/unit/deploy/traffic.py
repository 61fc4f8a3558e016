"""Every kind of thing that can happen to the service, so that every graph has a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import numpy as np

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from tests.unit.deploy.live import Live

HEIGHT, WIDTH = 128, 192


def _pixels(seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8).tobytes()


def _ppm(seed: int) -> bytes:
    return f"P6 {WIDTH} {HEIGHT} 255\n".encode() + _pixels(seed)


PAIR = {"previous": _ppm(1), "current": _ppm(2)}


async def once(live: Live) -> None:
    """One round: answered, refused, late, wrong, abandoned, streamed, and handed on through Redis."""
    async with httpx.AsyncClient(timeout=60) as http:
        alone, front = f"{live.alone.http}/v1/predict", f"{live.front.http}/v1/predict"
        await asyncio.gather(*(http.post(alone, files=PAIR) for _ in range(12)))
        await http.post(alone, files=PAIR, headers={"X-Request-Timeout-Ms": "1"})
        await http.post(alone, files={"previous": b"no picture", "current": b"no picture"})
        await _abandon(http, alone)
        await asyncio.gather(*(http.post(front, files=PAIR) for _ in range(4)))
    await _stream(live.alone.grpc)
    await _aimed_stream(live.alone.grpc)


async def _abandon(http: httpx.AsyncClient, url: str) -> None:
    """Several calls at once; all leave when the first has its answer."""
    calls = [asyncio.create_task(http.post(url, files=PAIR, params={"steps": 4})) for _ in range(4)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def _stream(address: str) -> None:
    async def frames() -> AsyncIterator[pb.StreamPredictRequest]:
        yield pb.StreamPredictRequest(start=pb.StreamStart(horizon=1))
        for seed in range(4):
            raw = pb.RawPicture(pixels=_pixels(seed), height=HEIGHT, width=WIDTH)
            yield pb.StreamPredictRequest(frame=pb.Frame(frame_id=str(seed), raw=raw))

    stub: Any = dmvfn_pb2_grpc.PredictionServiceStub  # generated, without types
    async with grpc.aio.insecure_channel(address) as channel:
        async for _ in stub(channel).StreamPredict(frames()):
            pass


async def _aimed_stream(address: str) -> None:
    """Frames to be seen 80 ms after they are sent, each with the receipt of the answer before."""
    stub: Any = dmvfn_pb2_grpc.PredictionServiceStub  # generated, without types
    async with grpc.aio.insecure_channel(address) as channel:
        call = stub(channel).StreamPredict()
        await call.write(pb.StreamPredictRequest(start=pb.StreamStart(show_at="now+80ms")))
        receipt = None
        for seed in range(4):
            raw = pb.RawPicture(pixels=_pixels(7), height=HEIGHT, width=WIDTH)
            taken_us = 40_000 * seed
            frame = pb.Frame(raw=raw, receipt=receipt, presentation_time_us=taken_us, sent_us=taken_us + 1_000)
            await call.write(pb.StreamPredictRequest(frame=frame))
            reply = await call.read()
            receipt = pb.Receipt(sequence=reply.sequence, received_us=taken_us + 31_000)
        await call.done_writing()
