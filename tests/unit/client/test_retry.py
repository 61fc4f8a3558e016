from __future__ import annotations

import pytest
from dmvfn_client.errors import Busy, ConnectionFailed, DeadlineExceeded, InvalidInput, ServiceFailed
from dmvfn_client.retry import NEVER, Retry
from hypothesis import given
from hypothesis import strategies as st

RETRY = Retry(tries=5, first=0.2, longest=1.0)


def test_waits_double_up_to_the_longest() -> None:
    waits = [RETRY.wait(ConnectionFailed("gone"), failed, None, 1.0) for failed in range(1, 6)]
    assert waits == [0.2, 0.4, 0.8, 1.0, None]


def test_chance_spreads_the_waits() -> None:
    assert RETRY.wait(ConnectionFailed("gone"), 1, None, 0.0) == pytest.approx(0.1)


@given(asked=st.floats(0, 60), chance=st.floats(0, 1), failed=st.integers(1, 4))
def test_it_never_comes_back_sooner_than_asked(asked: float, chance: float, failed: int) -> None:
    wait = RETRY.wait(Busy("full", retry_after=asked), failed, None, chance)
    assert wait is not None
    assert wait >= asked


def test_a_wait_beyond_the_callers_time_is_not_begun() -> None:
    assert RETRY.wait(Busy("full", retry_after=3.0), 1, 2.9, 0.0) is None
    assert RETRY.wait(Busy("full", retry_after=3.0), 1, 3.1, 0.0) == 3.0


@pytest.mark.parametrize("error", [InvalidInput("x"), DeadlineExceeded("x"), ServiceFailed("x")])
def test_what_would_only_fail_again_is_not_tried_again(error: Exception) -> None:
    assert RETRY.wait(error, 1, None, 0.5) is None  # type: ignore[arg-type]


def test_never_is_never() -> None:
    assert NEVER.wait(Busy("full"), 1, None, 0.5) is None
