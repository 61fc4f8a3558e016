"""Which key a header holds."""

from __future__ import annotations

import pytest

from service.core.auth import bearer


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
    ],
)
def test_the_key_is_taken_from_an_authorization_header(header: str | None, key: str | None) -> None:
    assert bearer(header) == key
