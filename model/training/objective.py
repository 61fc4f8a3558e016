"""The scalar that a step minimises, from a network and a batch; what DDP wraps, so that gradients are shared."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.dmvfn.network import DMVFN
from model.training import fixed_route, losses, route_labels
from model.training.batches import Batch
from model.training.plan import Phase, Precision
from model.training.vgg import VGG


class StepOutcome(NamedTuple):
    """One training step's loss and predictions, for logs and pictures."""

    loss: Tensor  #: scalar
    frame: Tensor  #: Bx3xSxS prediction, detached
    flow: Tensor  #: Bx4xSxS, detached
    blocks: Tensor  #: B: blocks each sample ran


class Objective(nn.Module):
    """A network with the losses of a phase."""

    def __init__(self, network: DMVFN, phase: Phase, precision: Precision = "fp32", vgg: VGG | None = None) -> None:
        super().__init__()
        self.network = network
        self._phase, self._half = phase, precision == "bf16"
        # In a list, so that the frozen VGG is no part of the module that DDP and the optimizer look at.
        self._vgg = [vgg] if vgg is not None else []
        self.blocks = phase.blocks or tuple(range(network.config.blocks))

    def forward(self, batch: Batch, flow_weight: float, routes: Tensor | None = None) -> StepOutcome:
        """Compute the loss of a batch; `routes` BxN of 0/1 in a routed phase."""
        if self._phase.router_tolerance:
            return self._choosing(batch)
        with torch.autocast(batch.previous.device.type, torch.bfloat16, enabled=self._half):
            if routes is not None:
                out = self.network(batch.previous, batch.current, routes)
                frames, flows, ran = out.frames, [out.flow], routes.sum(1)
            else:
                steps = fixed_route.run(self.network, batch.previous, batch.current, self.blocks)
                # A step before the first learning block has no gradient: its loss would only cost time.
                steps = [step for step in steps if step.flow.requires_grad] or steps
                frames, flows = [step.frame for step in steps], [step.flow for step in steps]
                ran = batch.previous.new_full((len(batch.previous),), len(self.blocks))
        loss = losses.discounted([self._frame_loss(frame.float(), batch.target) for frame in frames])
        if flow_weight:
            distances = [losses.flow_distance(flow, batch.flow, batch.known) for flow in flows]
            loss = loss + flow_weight * losses.discounted(distances)
        if self._phase.vgg and self._vgg:
            loss = loss + self._phase.vgg * self._vgg[0](frames[-1].float(), batch.target)
        return StepOutcome(loss, frames[-1].detach().float(), flows[-1].detach(), ran)

    def _choosing(self, batch: Batch) -> StepOutcome:
        """Measure the router against the best routes, found by trying all: cross-entropy of its probabilities."""
        network, count = self.network, self.network.config.blocks
        with torch.no_grad(), torch.autocast(batch.previous.device.type, torch.bfloat16, enabled=self._half):
            errors, last = route_labels.errors(network, batch.previous, batch.current, batch.target, self.blocks)
        total = network.config.expected_blocks
        labels = route_labels.router_targets(errors, self.blocks, count, total, self._phase.router_tolerance)
        values = F.logsigmoid(network.routing_logits(batch.previous, batch.current))
        shares = values - values.logsumexp(1, keepdim=True)  # log of each one's share of their sum
        loss = -(labels.probabilities / total * shares).sum(1).mean()
        return StepOutcome(loss, last.frame.float(), last.flow, labels.blocks)

    def _frame_loss(self, frame: Tensor, target: Tensor) -> Tensor:
        loss = target.new_zeros(())
        if self._phase.laplacian:
            loss = loss + self._phase.laplacian * losses.laplacian(frame, target)
        if self._phase.charbonnier:
            loss = loss + self._phase.charbonnier * losses.charbonnier(frame, target)
        if self._phase.log_mse:
            loss = loss + self._phase.log_mse * losses.log_mse(frame, target)
        return loss
