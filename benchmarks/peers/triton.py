"""Triton Inference Server: PyTriton, its dynamic batcher before a callable. `python -m benchmarks.peers.triton`."""

from __future__ import annotations

import os
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.bare import Picture
from benchmarks.peers.handler import Handler, Tuned
from benchmarks.peers.triton_messages import FRAME, MODEL, PAIR

#: Microseconds a batch waits to fill: ten milliseconds, as the others wait.
WAIT = 10_000


def callable_of(handler: Handler) -> Callable[..., Any]:
    """Wrap `handler` as PyTriton wants it: pairs Bx2xHxWx3 in, frames BxHxWx3 out."""

    @batch  # type: ignore[untyped-decorator,unused-ignore]
    def predict(**inputs: Picture) -> dict[str, Picture]:
        return {FRAME: np.stack(handler.frames(list(inputs[PAIR])))}

    batched: Callable[..., Any] = predict
    return batched


def main() -> None:
    """Serve until killed."""
    tuned = Tuned.from_env()
    # Triton's stub loads a libpython of its own accord; one of another patch release cannot read this one's modules.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    # A request that waits for longer than it may take is refused, as the others' timeouts do.
    policy = QueuePolicy(default_timeout_microseconds=int(1e6 * tuned.deadline))
    batcher = DynamicBatcher(max_queue_delay_microseconds=WAIT, default_queue_policy=policy)
    options = TritonConfig(
        http_address="127.0.0.1", http_port=tuned.port, allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    with Triton(config=options, workspace=str(Path(tempfile.gettempdir(), "triton"))) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=callable_of(Handler(tuned)),
            inputs=[Tensor(name=PAIR, dtype=np.uint8, shape=(2, -1, -1, 3))],
            outputs=[Tensor(name=FRAME, dtype=np.uint8, shape=(-1, -1, 3))],
            config=ModelConfig(max_batch_size=tuned.batch, batcher=batcher),
        )
        triton.serve()


if __name__ == "__main__":
    main()
