"""What a function launches on a GPU, recorded once per key and replayed: one launch instead of hundreds.

Knows no network. A function must launch the same work for the same key, whatever the values of its inputs.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded call: fill `inputs`, `replay()`, read `outputs`, which the next replay overwrites."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    memory: Any = None  #: what to give `record` so that another recording works in the same memory


Record = Callable[[Function, tuple[Tensor, ...], Any], Recording]


def record(function: Function, inputs: tuple[Tensor, ...], memory: Any = None) -> Recording:
    """Record a call of `function` on copies of `inputs`, all on the current CUDA device; RuntimeError if impossible."""
    own = tuple(tensor.clone() for tensor in inputs)
    graph = torch.cuda.CUDAGraph()
    # Another thread may ask the driver how much memory is left meanwhile.
    with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
        outputs = function(*own)
    return Recording(own, outputs, graph.replay, graph.pool())


class Graphs:
    """Calls functions, from their recording where there is one. For one caller at a time."""

    def __init__(self, record: Record, most: int = 64) -> None:
        """Keep at most `most` keys, those used last."""
        self._record: Record | None = record
        self._most = most
        self._known: OrderedDict[Hashable, Recording | None] = OrderedDict()

    def __call__(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return `function(*inputs)`, recorded at the second call of a key: a size seen once is not worth it."""
        repeats = key in self._known
        recording = self._known.pop(key, None)
        if repeats and recording is None:
            recording = self._recorded(function, inputs)
        self._known[key] = recording
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        if recording is None:
            return function(*inputs)
        for own, tensor in zip(recording.inputs, inputs, strict=True):
            own.copy_(tensor)
        recording.replay()
        return tuple(output.clone() for output in recording.outputs)

    def clear(self) -> None:
        """Forget all keys and give their memory back."""
        self._known.clear()

    def _recorded(self, function: Function, inputs: tuple[Tensor, ...]) -> Recording | None:
        """Record a call; return None where nothing can be recorded, then and ever after."""
        if self._record is None:
            return None
        memory = next((one.memory for one in self._known.values() if one is not None), None)
        try:
            return self._record(function, inputs, memory)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning("calls cannot be recorded here, they are launched piece by piece: %s", error)
            self._record = None
            return None
