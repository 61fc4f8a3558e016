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
        """What `make()` returned for these very weights and this `kind`, called now if it was not yet."""
        with self._turn:
            known = self._known.get(network)
            if known is None or known[0] != kind or not known[1].unchanged():
                known = self._known[network] = (kind, _Weights(network), make())
        return known[2]

    def last(self, network: nn.Module) -> Made | None:
        """What was made last from `network`, whatever became of its weights."""
        known = self._known.get(network)
        return None if known is None else known[2]


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
        """Whether the network has these modules and tensors still, with these values."""
        return (
            all(children.get(name) is child for children, name, child in self._modules)
            and all(place.get(name) is tensor and tensor.data_ptr() == at for place, name, tensor, at in self._tensors)
            and all(tensor._version == version for tensor, version in self._versions)
        )
