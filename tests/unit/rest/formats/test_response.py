"""Headers of answers carry whatever a model is called."""

from __future__ import annotations

import pytest

from service.rest.formats.response import header_text


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("tiny-1", "tiny-1"),
        ("a\\b", "a\\b"),
        ("café", "caf\\xe9"),
        ("модель", "\\u043c\\u043e\\u0434\\u0435\\u043b\\u044c"),
        ("x\r\nSet-Cookie: y", "x\\r\\nSet-Cookie: y"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_a_header_shows_visible_ascii_and_escapes_the_rest(text: str, header: str) -> None:
    assert header_text(text) == header
    header.encode("ascii")
