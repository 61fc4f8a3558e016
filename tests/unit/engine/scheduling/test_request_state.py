"""Every step that a request's state may take, and none other."""

from __future__ import annotations

import itertools

import pytest

from service.core.bucket import Bucket
from service.engine.scheduling.cost_model import RouteOption
from service.engine.scheduling.entry import Entry
from service.engine.scheduling.request_state import ENDS, WAITING, IllegalTransition, RequestLife, RequestState

#: For each state in its row, whether the state of the column may follow: y, or - where it is a defect.
TABLE = """
             new routing ready running done failed expired cancelled refused
    new       -     y      y      -      -     -      -        -        y
    routing   -     -      y      -      -     y      y        y        -
    ready     -     -      -      y      -     y      y        y        -
    running   -     -      -      -      y     y      y        y        -
    done      -     -      -      -      -     -      -        -        -
    failed    -     -      -      -      -     -      -        -        -
    expired   -     -      -      -      -     -      -        -        -
    cancelled -     -      -      -      -     -      -        -        -
    refused   -     -      -      -      -     -      -        -        -
"""
HEADER, *ROWS = (line.split() for line in TABLE.strip().splitlines())
ALLOWED = {
    (RequestState(row[0]), RequestState(column)): cell == "y"
    for row in ROWS
    for column, cell in zip(HEADER, row[1:], strict=True)
}


def test_the_table_names_every_pair_of_states() -> None:
    assert set(ALLOWED) == set(itertools.product(RequestState, repeat=2))
    assert {*WAITING, *ENDS, RequestState.NEW, RequestState.RUNNING} == set(RequestState)


@pytest.mark.parametrize(("before", "after"), ALLOWED, ids=lambda state: state.value)
def test_a_state_is_followed_by_what_the_table_allows_and_nothing_else(
    before: RequestState, after: RequestState
) -> None:
    life = RequestLife()
    life.state = before
    if ALLOWED[before, after]:
        life.enter(after)
        assert life.state is after
        return
    with pytest.raises(IllegalTransition, match=f"{before.value} cannot become {after.value}"):
        life.enter(after)
    assert life.state is before


def test_an_end_is_what_nothing_follows() -> None:
    assert set(ENDS) == {before for before in RequestState if not any(ALLOWED[before, after] for after in RequestState)}


def test_an_entry_has_one_life_from_new_on() -> None:
    entry = Entry("a", Bucket(256, 448, 1.0), 1.0, (RouteOption(0.1),))
    states = [entry.state]
    for state in (RequestState.READY, RequestState.RUNNING, RequestState.DONE):
        entry.enter(state)
        states.append(entry.state)
    assert states == [RequestState.NEW, RequestState.READY, RequestState.RUNNING, RequestState.DONE]
