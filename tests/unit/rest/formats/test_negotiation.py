"""Which answer a client prefers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rest.formats.negotiation import choose

OFFERS = ("image/png", "image/jpeg", "application/json")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "image/png"),
        ("", "image/png"),
        ("*/*", "image/png"),
        ("*", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("IMAGE/JPEG", "image/jpeg"),
        ("application/*", "application/json"),
        ("image/png;q=0.5, image/jpeg", "image/jpeg"),
        ("image/png;q=0.5, image/jpeg;q=0.4", "image/png"),
        ("image/*;q=0.5, application/json", "application/json"),
        ("*/*, image/png;q=0", "image/jpeg"),
        ("image/*;q=0, */*;q=0.1", "application/json"),
        ("application/json; charset=utf-8; q=1, image/png;q=0.999", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "image/png"),
        ("image/png;q=nonsense, image/jpeg", "image/png"),
        (",,;,image/jpeg", "image/jpeg"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/gif, image/*;q=0", None),
        ("*/png", None),
    ],
)
def test_the_closest_range_with_the_highest_weight_wins(accept: str | None, chosen: str | None) -> None:
    assert choose(accept, OFFERS) == chosen


def test_an_endless_header_is_read_only_so_far() -> None:
    assert choose("text/html," * 100_000 + "image/png", OFFERS) is None


@given(st.text(max_size=200))
def test_any_header_gives_one_of_ours_or_none(accept: str) -> None:
    assert choose(accept, OFFERS) in (*OFFERS, None)
