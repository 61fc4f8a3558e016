"""The least of a few tries is judged, for each bound by itself."""

from __future__ import annotations

import pytest

from tests.measured import UpperBounds


def test_a_first_try_below_every_bound_is_enough() -> None:
    bounds = UpperBounds(seconds=0.3)
    assert bounds.unmet()
    bounds.measured(seconds=0.2)
    assert not bounds.unmet()


def test_noise_in_two_tries_is_forgiven() -> None:
    bounds = UpperBounds(seconds=0.3, mib=10)
    for seconds, mib in ((0.9, 2), (0.1, 99)):
        assert bounds.unmet()
        bounds.measured(seconds=seconds, mib=mib)
    assert not bounds.unmet()


def test_what_no_try_meets_is_told_with_every_value() -> None:
    bounds = UpperBounds(seconds=0.3)
    for seconds in (0.5, 0.3, 0.4):
        assert bounds.unmet()
        bounds.measured(seconds=seconds)
    with pytest.raises(AssertionError, match=r"seconds in none of 3 tries below .*0\.3.*0\.5.*0\.3.*0\.4"):
        bounds.unmet()
