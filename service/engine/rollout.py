"""Predicts one or several future frames of a batch: each step's unrounded prediction is the next step's current frame.

Takes and gives tensors of one padded size whose members may be smaller; knows no queue, no clock and no uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from model.dmvfn import routing
from model.dmvfn.network import DMVFN
from model.inference import padding
from model.inference.predict import FramePairs
from service.core.types import MAX_SEED, Options, Route, RoutePolicy
from service.engine.device import ChosenRoute
from service.engine.scheduling.pricing import needs_routing

#: Odd constants of splitmix64 (Steele, Lea, Flood 2014), which turns (seed, step) into well separated seeds.
_GOLDEN, _MIX1, _MIX2, _WORD = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 2**64 - 1


@dataclass(frozen=True, slots=True)
class Member:
    """One sample of a batch: true size in pixels, options, first route (None: choose it), most blocks per step."""

    height: int
    width: int
    options: Options
    route: Route | None = None
    most_blocks: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StepOutput:
    """One member's frame: `frame` 3xhxw in 0..1 unrounded, `flow` 4xhxw pixels, `mask_logits` hxw, true size."""

    member: int
    step: int
    route: Route
    used_routing: bool  #: the routing module ran for it
    was_empty: bool
    finite: bool  #: False: no value of this frame may be used
    frame: Tensor
    flow: Tensor
    mask_logits: Tensor

    @property
    def mask(self) -> Tensor:
        """Return the previous frame's weight hxw, 0..1; few ask for it."""
        return self.mask_logits.sigmoid()


@dataclass(slots=True)
class Tally:
    """What a run has done so far; `passes` is the longest member's."""

    routes: list[Route] = field(default_factory=list)
    carried: list[Route] = field(default_factory=list)  #: of frames carried on from another
    passes: int = 0
    routings: int = 0
    empties: int = 0

    def add(self, output: StepOutput) -> None:
        """Count one frame that was predicted."""
        self.routes.append(output.route)
        self.routings += output.used_routing
        self.empties += output.was_empty


def step_seed(seed: int, step: int) -> int:
    """Derive the seed of a later step of a sampled route; step 0 uses the request's own, as it would alone."""
    if step == 0:
        return seed
    x = (seed + step * _GOLDEN) & _WORD
    x = ((x ^ (x >> 30)) * _MIX1) & _WORD
    x = ((x ^ (x >> 27)) * _MIX2) & _WORD
    return (x ^ (x >> 31)) & MAX_SEED


def choose(pairs: FramePairs, members: Mapping[int, Member], step: int, blocks: int) -> dict[int, ChosenRoute]:
    """Choose a route of `blocks` bits for every member, by the row of its pair and by its policy; never empty."""
    routed_rows = [row for row, member in members.items() if needs_routing(member.options)]
    probabilities: dict[int, Tensor] = {}
    if routed_rows:
        probabilities = dict(zip(routed_rows, pairs.probabilities(routed_rows).to("cpu", torch.float32), strict=True))
    return {row: _by_policy(probabilities.get(row), member, step, blocks) for row, member in members.items()}


def _by_policy(row: Tensor | None, member: Member, step: int, blocks: int) -> ChosenRoute:
    choice = member.options.route
    probabilities = (torch.ones(blocks) if row is None else row)[None]
    was_empty = False
    if choice.policy is RoutePolicy.AUTO:
        route = routing.auto(probabilities)
        was_empty = not bool((probabilities >= routing.AUTO_THRESHOLD).any())
    elif choice.policy is RoutePolicy.SAMPLE:
        seed = step_seed(choice.seed or 0, step)
        route = routing.sample(probabilities, [seed])
        bits = torch.rand(blocks, generator=torch.Generator().manual_seed(seed)) < probabilities[0]
        was_empty = not bool(bits.any())
    elif choice.policy is RoutePolicy.BUDGET:
        route = routing.budget(probabilities, [choice.blocks or blocks])
    elif choice.policy is RoutePolicy.EXPLICIT and choice.bits is not None:
        route = torch.tensor([choice.bits])
    else:
        route = routing.full(probabilities)
    if member.most_blocks is not None and int(route.sum()) > member.most_blocks:
        likely = torch.where(route, probabilities, -torch.ones_like(probabilities))
        route = routing.budget(likely, [member.most_blocks])
    odds = None if row is None else tuple(row.tolist())
    return ChosenRoute(tuple(bool(bit) for bit in route[0].tolist()), odds, was_empty)


def roll(
    network: DMVFN,
    previous: Tensor,
    current: Tensor,
    members: Sequence[Member],
    keep: Callable[[int], bool] = lambda member: True,
    time_routing: Callable[[Callable[[], dict[int, ChosenRoute]]], dict[int, ChosenRoute]] = lambda choose: choose(),
) -> Iterator[list[StepOutput]]:
    """Yield, step after step, the output of each member still there; members leave after their last step.

    previous, current: Bx3xHxW in 0..1, each member in the top left corner and its edge repeated to the right and below.
    `keep(member)` is asked before every step but the first; who is not kept, or came out not finite, leaves.
    """
    present = list(range(len(members)))
    step = 0
    while present:
        here = [members[i] for i in present]
        pairs = FramePairs(network, previous, current, here[0].options.scale)
        choices = _routes(pairs, here, step, network.config.blocks, time_routing)
        out = pairs.predict(torch.tensor([choice.route for choice in choices]))
        frames = _repeat_edges(out.frame, here)
        # Sums are not finite exactly where a value is not: frames alone would not show an infinite flow (clamped).
        sums = out.frame.sum((1, 2, 3)) + out.flow.sum((1, 2, 3)) + out.mask.sum((1, 2, 3))
        finite: list[bool] = torch.isfinite(sums).tolist()
        yield [
            StepOutput(
                member=present[row],
                step=step,
                route=choices[row].route,
                used_routing=choices[row].probabilities is not None,
                was_empty=choices[row].was_empty,
                finite=finite[row],
                frame=padding.crop(frames[row], member.height, member.width),
                flow=padding.crop(out.flow[row], member.height, member.width),
                mask_logits=padding.crop(out.mask[row, 0], member.height, member.width),
            )
            for row, member in enumerate(here)
        ]
        step += 1
        stays = [row for row, i in enumerate(present) if finite[row] and members[i].options.steps > step and keep(i)]
        previous, current = current, frames
        if len(stays) < len(present):
            rows = torch.tensor(stays, dtype=torch.long, device=current.device)
            previous, current = previous[rows], current[rows]
        present = [present[row] for row in stays]


def _routes(
    pairs: FramePairs,
    members: Sequence[Member],
    step: int,
    blocks: int,
    time_routing: Callable[[Callable[[], dict[int, ChosenRoute]]], dict[int, ChosenRoute]],
) -> list[ChosenRoute]:
    routes: dict[int, ChosenRoute] = {
        row: ChosenRoute(member.route, None, False)
        for row, member in enumerate(members)
        if step == 0 and member.route is not None
    }
    without = {row: member for row, member in enumerate(members) if row not in routes}
    if without:
        routes.update(time_routing(lambda: choose(pairs, without, step, blocks)))
    return [routes[row] for row in range(len(members))]


def _repeat_edges(frames: Tensor, members: Sequence[Member]) -> Tensor:
    """Repeat each member's own edge over what lies outside its true size; frames are BxCxHxW."""
    height, width = frames.shape[-2:]
    for row, member in enumerate(members):
        if (member.height, member.width) != (height, width):
            own = frames[row : row + 1, :, : member.height, : member.width]
            gap = (0, width - member.width, 0, height - member.height)
            frames[row] = F.pad(own, gap, mode="replicate")[0]
    return frames
