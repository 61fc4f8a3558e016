"""Tries PyTriton's clients. Run by their Python: pytriton_calls.py HTTP GRPC FOLDER."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
from pytriton.client import AsyncioModelClient, DecoupledModelClient, FuturesModelClient, ModelClient

from tests.system.clients.attempts import Attempts

OPTIONS = {"blocks": 3}


def over(attempts: Attempts, wire: str, url: str, workers: int) -> None:
    """Sync, futures of `workers` threads and asyncio over one transport."""
    frames = attempts.frames
    how: dict[str, Any] = {"init_timeout_s": 60, "inference_timeout_s": 60}

    def batch() -> np.ndarray:
        with ModelClient(url, "dmvfn", **how) as client:
            return client.infer_batch(FRAMES=frames, parameters=OPTIONS)["PRED"]  # type: ignore[no-any-return]

    def sample() -> np.ndarray:
        with ModelClient(url, "dmvfn", **how) as client:
            return client.infer_sample(frames[0], parameters=OPTIONS)["PRED"]  # type: ignore[no-any-return]

    def version() -> np.ndarray:
        with ModelClient(url, "dmvfn", "1", lazy_init=False, **how) as client:
            return client.infer_batch(frames, parameters=OPTIONS)["PRED"]  # type: ignore[no-any-return]

    def files() -> bool:
        pictures = [np.array([file], dtype=np.object_) for file in attempts.files]
        with ModelClient(url, "dmvfn_image", **how) as client:
            answer = client.infer_sample(FRAME0=pictures[0], FRAME1=pictures[1])
            return bool(answer["PRED"][0].startswith(b"\x89PNG"))

    def config() -> bool:
        with ModelClient(url, "dmvfn", **how) as client:
            return bool(client.is_batching_supported and client.model_config.model_name == "dmvfn")

    def futures() -> np.ndarray:
        with FuturesModelClient(url, "dmvfn", max_workers=workers) as client:
            waiting = [client.infer_batch(FRAMES=frames, parameters=OPTIONS) for _ in range(3)]
            return [future.result(timeout=60)["PRED"] for future in waiting][-1]  # type: ignore[no-any-return]

    async def aio() -> np.ndarray:
        async with AsyncioModelClient(url, "dmvfn", **how) as client:
            return (await client.infer_batch(FRAMES=frames, parameters=OPTIONS))["PRED"]  # type: ignore[no-any-return]

    def refused() -> object:
        with ModelClient(url, "dmvfn", **how) as client:
            return client.infer_batch(FRAMES=frames, parameters={"steps": 99})

    attempts.tried(f"{wire} ModelClient.model_config", config)
    attempts.tried(f"{wire} ModelClient.infer_batch", batch)
    attempts.tried(f"{wire} ModelClient.infer_sample", sample)
    attempts.tried(f"{wire} ModelClient of a version, not lazy", version)
    attempts.tried(f"{wire} ModelClient.infer_sample of image files", files)
    attempts.tried(f"{wire} FuturesModelClient.infer_batch, three, {workers} at once", futures)
    attempts.tried(f"{wire} AsyncioModelClient.infer_batch", lambda: asyncio.run(aio()))
    attempts.refused(f"{wire} ModelClient.infer_batch, steps=99", refused, "steps must be between")


def main(http: str, grpc: str, folder: str) -> None:
    """Both transports, then the client for models with any number of answers."""
    attempts = Attempts("nvidia-pytriton", folder)
    over(attempts, "http", f"http://{http}", workers=2)
    # From its second thread on it forgets that the address began with grpc:// and speaks HTTP.
    over(attempts, "grpc", f"grpc://{grpc}", workers=1)

    def decoupled() -> object:
        with DecoupledModelClient(f"grpc://{grpc}", "dmvfn", init_timeout_s=60) as client:
            return list(client.infer_batch(FRAMES=attempts.frames))

    attempts.refused("grpc DecoupledModelClient, refused by the client itself", decoupled, "coupled")


if __name__ == "__main__":
    main(*sys.argv[1:])
