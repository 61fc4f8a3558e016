"""The network's answers for one window under many routes, computing what several routes share once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.inference import predict as inference


class RolloutAnswer(NamedTuple):
    """One predicted step."""

    frame: Tensor  #: 1x3xHxW in 0..1, unrounded
    flow: Tensor  #: 1x4xHxW pixels
    route: str  #: one digit a block


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """How a route is chosen: "full", "auto", or the k most probable blocks."""

    name: str
    budget: int | None = None

    def route(self, probabilities: Tensor) -> Tensor:
        """Choose a route 1xN bool by probabilities 1xN."""
        if self.budget is not None:
            return routing.budget(probabilities, [self.budget])
        return routing.full(probabilities) if self.name == "full" else routing.auto(probabilities)


def policies(blocks: int) -> list[RolloutPolicy]:
    """List full, auto and every budget of a network with so many blocks."""
    return [
        RolloutPolicy("full"),
        RolloutPolicy("auto"),
        *(RolloutPolicy(f"budget {k}", k) for k in range(1, blocks + 1)),
    ]


class Rollouts:
    """Rollouts from one pair of frames. Policies that took the same routes so far share their frames."""

    def __init__(self, network: DMVFN, previous: Tensor, current: Tensor) -> None:
        self._network, self._previous, self._current = network, previous, current
        self._probabilities: dict[tuple[str, ...], Tensor] = {}
        self._answers: dict[tuple[str, ...], RolloutAnswer] = {}

    def run(self, policy: RolloutPolicy, steps: int) -> list[RolloutAnswer]:
        """Predict `steps` frames ahead, each predicted frame fed back unrounded."""
        previous, current = self._previous, self._current
        history: tuple[str, ...] = ()
        answers = []
        for _ in range(steps):
            if history not in self._probabilities:
                self._probabilities[history] = inference.probabilities(self._network, previous, current)
            route = policy.route(self._probabilities[history])
            history = (*history, "".join("01"[int(bit)] for bit in route[0]))
            if history not in self._answers:
                prediction = inference.predict(self._network, previous, current, route)
                self._answers[history] = RolloutAnswer(prediction.frame, prediction.flow, history[-1])
            answers.append(self._answers[history])
            previous, current = current, answers[-1].frame
        return answers


def tensor(frame: object, device: torch.device) -> Tensor:
    """Convert an array HxWx3, uint8 or in 0..1, to 1x3xHxW in 0..1."""
    values = torch.as_tensor(frame).to(device)
    floats = values.float() / 255 if values.dtype == torch.uint8 else values.float()
    return floats.permute(2, 0, 1)[None].contiguous()
