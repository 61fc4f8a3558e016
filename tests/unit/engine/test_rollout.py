"""Several future frames: the network's own predictions, unrounded, step after step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.inference import padding
from model.inference import predict as inference
from service.core.types import MAX_SEED, Options, Quality, RouteChoice, RoutePolicy
from service.engine import rollout
from service.engine.device import ChosenRoute
from service.engine.rollout import Member, StepOutput
from tests.unit.engine.tiny import network

FULL = RouteChoice(RoutePolicy.FULL)


def pictures(count: int, height: int = 32, width: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    made = torch.rand(2, count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return made[0], made[1]


@torch.inference_mode()
def rolled(previous: Tensor, current: Tensor, members: list[Member], **more: object) -> list[list[StepOutput]]:
    return list(rollout.roll(network(), previous, current, members, **more))  # type: ignore[arg-type]  # keywords of roll


def _chosen(previous: Tensor, current: Tensor, members: list[Member]) -> list[ChosenRoute]:
    pairs = inference.FramePairs(network(), previous, current)
    return list(rollout.choose(pairs, dict(enumerate(members)), 0, 9).values())


def test_three_steps_are_three_chained_predictions_on_unrounded_frames() -> None:
    previous, current = pictures(1)
    steps = rolled(previous, current, [Member(32, 48, Options(FULL, steps=3))])
    for (step,) in steps:
        previous, current = (
            current,
            inference.predict(network(), previous, current, torch.ones(1, 9, dtype=torch.bool)).frame,
        )
        assert torch.equal(step.frame, current[0])
    assert len(steps) == 3


def test_a_smaller_frame_in_a_padded_batch_rolls_as_it_would_alone() -> None:
    """Its own edge is repeated outside it before every step, whatever the network wrote there."""
    previous, current = (padding.pad(picture) for picture in pictures(1, 27, 41))
    alone = rolled(previous, current, [Member(27, 41, Options(FULL, steps=3))])
    beside = rolled(
        torch.cat((previous, pictures(1, seed=1)[0])),
        torch.cat((current, pictures(1, seed=1)[1])),
        [Member(27, 41, Options(FULL, steps=3)), Member(32, 48, Options(FULL, steps=3))],
    )
    for (one,), (first, _) in zip(alone, beside, strict=True):
        assert one.frame.shape == (3, 27, 41)
        torch.testing.assert_close(one.frame, first.frame, atol=1e-4, rtol=0)
    chained_previous, chained_current = pictures(1, 27, 41)
    for (one,) in alone:
        frame = inference.predict(
            network(), chained_previous, chained_current, torch.ones(1, 9, dtype=torch.bool)
        ).frame
        chained_previous, chained_current = chained_current, frame
        torch.testing.assert_close(one.frame, frame[0], atol=1e-4, rtol=0)


def test_members_leave_after_their_last_step() -> None:
    previous, current = pictures(3)
    steps = rolled(previous, current, [Member(32, 48, Options(FULL, steps=n)) for n in (1, 3, 2)])
    assert [[predicted.member for predicted in step] for step in steps] == [[0, 1, 2], [1, 2], [1]]
    assert [step[0].step for step in steps] == [0, 1, 2]


def test_members_nobody_wants_any_more_leave_between_steps() -> None:
    previous, current = pictures(2)
    members = [Member(32, 48, Options(FULL, steps=3))] * 2
    steps = rolled(previous, current, members, keep=lambda member: member == 1)
    assert [[predicted.member for predicted in step] for step in steps] == [[0, 1], [1], [1]]


def test_a_member_that_is_not_finite_is_marked_and_leaves() -> None:
    previous, current = pictures(2)
    previous[0, 0, 3, 3] = float("nan")
    steps = rolled(previous, current, [Member(32, 48, Options(FULL, steps=2))] * 2)
    assert [[(p.member, p.finite) for p in step] for step in steps] == [[(0, False), (1, True)], [(1, True)]]


def test_every_step_chooses_its_own_route() -> None:
    previous, current = pictures(1)
    steps = rolled(previous, current, [Member(32, 48, Options(RouteChoice(RoutePolicy.SAMPLE, seed=7), steps=6))])
    assert len({predicted.route for (predicted,) in steps}) > 1
    assert all(predicted.used_routing for (predicted,) in steps)


def test_a_given_route_is_the_first_steps_and_costs_no_routing() -> None:
    previous, current = pictures(1)
    route = (True, False) * 4 + (True,)
    first, second = rolled(previous, current, [Member(32, 48, Options(steps=2), route=route)])
    assert (first[0].route, first[0].used_routing, second[0].used_routing) == (route, False, True)


@pytest.mark.parametrize(
    ("choice", "blocks"),
    [(FULL, 9), (RouteChoice(RoutePolicy.BUDGET, blocks=4), 4), (RouteChoice.parse("000100001"), 2)],
)
def test_a_policy_that_fixes_the_number_of_blocks_gets_it(choice: RouteChoice, blocks: int) -> None:
    previous, current = pictures(2)
    chosen = _chosen(previous, current, [Member(32, 48, Options(choice))] * 2)
    assert [sum(one.route) for one in chosen] == [blocks] * 2


def test_a_neighbour_of_another_policy_changes_no_route() -> None:
    previous, current = pictures(3)
    policies = [RouteChoice(), RouteChoice(RoutePolicy.SAMPLE, seed=3), FULL]
    members = [Member(32, 48, Options(policy)) for policy in policies]
    together = _chosen(previous, current, members)
    alone = [_chosen(previous[i : i + 1], current[i : i + 1], members[i : i + 1])[0] for i in range(3)]
    assert [one.route for one in together] == [one.route for one in alone]
    assert [one.probabilities is None for one in together] == [False, False, True]


def test_the_most_blocks_a_step_may_take_keeps_its_most_probable() -> None:
    previous, current = pictures(1)
    member = Member(32, 48, Options(RouteChoice(RoutePolicy.FULL), quality=Quality.ADAPTIVE), most_blocks=3)
    (chosen,) = _chosen(previous, current, [member])
    assert chosen.probabilities is not None
    ranked = sorted(range(9), key=lambda i: (-chosen.probabilities[i], i))  # type: ignore[index]  # asserted above
    assert {i for i, runs in enumerate(chosen.route) if runs} == set(ranked[:3])


def test_an_empty_draw_runs_a_block_and_is_counted() -> None:
    members = [Member(32, 48, Options(RouteChoice(RoutePolicy.SAMPLE, seed=seed))) for seed in range(4000)]
    probabilities = torch.tensor([0.1] * 8 + [0.3])
    chosen = [rollout._by_policy(probabilities, member, 0, 9) for member in members]
    empty = [one for one in chosen if one.was_empty]
    assert all(any(one.route) for one in chosen)
    assert {one.route for one in empty} == {(False,) * 8 + (True,)}
    assert 0.2 < len(empty) / len(chosen) < 0.4  # 0.9^8 * 0.7 = 0.30


@given(st.integers(0, MAX_SEED), st.integers(0, 1000))
def test_the_seed_of_a_step_is_a_seed_and_the_first_is_the_callers(seed: int, step: int) -> None:
    assert 0 <= rollout.step_seed(seed, step) <= MAX_SEED
    assert rollout.step_seed(seed, 0) == seed


def test_seeds_of_steps_and_neighbouring_requests_do_not_meet() -> None:
    seeds = [rollout.step_seed(seed, step) for seed in range(100) for step in range(1, 17)]
    assert len(set(seeds)) == len(seeds)
