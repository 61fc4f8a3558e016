"""Keeps what was made from a network's weights for as long as they are the same. Knows nothing of what is made.

Asked twice for every prediction: to look at all parameters anew, through the modules, takes 0.9 ms, as long as a GPU
may take to predict; to compare them with what was seen before a seventh of that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

Made = TypeVar("Made")


class WeightCache(Generic[Made]):
    """One thing made from each network."""

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._known: WeakKeyDictionary[nn.Module, tuple[Hashable, _Weights, Made]] = WeakKeyDictionary()

    def of(self, network: nn.Module, make: Callable[[], Made], kind: Hashable = None) -> Made:
        """Return what `make()` made of these very weights and this `kind`; call it now if it was not yet."""
        with self._turn:
            entry = self._known.get(network)
            if entry is None or entry[0] != kind or not entry[1].unchanged():
                entry = self._known[network] = (kind, _Weights(network), make())
        return entry[2]

    def last(self, network: nn.Module) -> Made | None:
        """Return the value made last from `network`, whatever became of its weights; None if there is none."""
        entry = self._known.get(network)
        return None if entry is None else entry[2]


class _Weights:
    """A network's parameters as they were: which tensors, where in memory, how often changed in place."""

    def __init__(self, network: nn.Module) -> None:
        modules = list(network.modules())
        self._modules = [
            (parent._modules, name, child) for parent in modules for name, child in parent.named_children()
        ]
        self._tensors: list[tuple[dict[str, nn.Parameter | None], str, Tensor, int]] = []
        self._versions: list[tuple[Tensor, int]] = []
        for module in modules:
            for name, tensor in module.named_parameters(recurse=False):
                self._tensors.append((module._parameters, name, tensor, tensor.data_ptr()))
                if not tensor.is_inference():  # those count no changes
                    self._versions.append((tensor, tensor._version))

    def unchanged(self) -> bool:
        """Tell whether the network still has these modules and tensors, with these values."""
        return (
            all(children.get(name) is child for children, name, child in self._modules)
            and all(place.get(name) is tensor and tensor.data_ptr() == at for place, name, tensor, at in self._tensors)
            and all(tensor._version == version for tensor, version in self._versions)
        )
