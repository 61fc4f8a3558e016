"""Who is calling."""

from __future__ import annotations

import contextlib
import hmac

import pytest

from service.core.auth import bearer, identify
from service.core.errors import Unauthenticated

KEYS = (("alice", "alice-key-1"), ("bob", "bob-key-22"))


def test_without_keys_everybody_is_nobody() -> None:
    assert identify((), None) == ""
    assert identify((), "anything") == ""


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_a_known_key_tells_its_name(name: str, key: str) -> None:
    assert identify(KEYS, key) == name


@pytest.mark.parametrize("key", [None, "", "alice", "alice-key-1 ", "ALICE-KEY-1", "ключ", "\udcff", "x" * 100_000])
def test_any_other_key_is_refused_without_being_repeated(key: str | None) -> None:
    with pytest.raises(Unauthenticated) as error:
        identify(KEYS, key)
    assert not key or len(key) < 8 or key not in error.value.message


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


@pytest.mark.parametrize("presented", ["alice-key-1", "bob-key-22", "unknown-key"])
def test_every_key_is_compared_whichever_fits_and_always_in_constant_time(
    presented: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it takes says neither which key was nearly right nor where in the list the right one stands."""
    compared: list[int] = []
    real = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(len(other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    with contextlib.suppress(Unauthenticated):
        identify(KEYS, presented)
    assert compared == [32] * len(KEYS)
