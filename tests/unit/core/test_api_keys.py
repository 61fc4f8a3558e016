"""Who is calling, what their key opens, and the two forms of a file of keys."""

from __future__ import annotations

import contextlib
import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.api_keys import ANYBODY, ApiKey, KeyRing, Scope, pairs_of, read_keys
from service.core.errors import PermissionDenied, Unauthenticated
from service.core.token_bucket import Allowance

PAIRS = (("alice", "alice-key-1"), ("bob", "bob-key-22"))
RING = KeyRing.of_pairs(PAIRS)
SECRET = "Zq7Zw8Zx9-key"
DIGEST = sha256(SECRET.encode()).hexdigest()


def test_without_keys_everybody_is_nobody() -> None:
    assert KeyRing().identify(None) is ANYBODY
    assert KeyRing().identify("anything").name == ""


@pytest.mark.parametrize(("name", "key"), PAIRS)
def test_a_known_key_tells_its_name(name: str, key: str) -> None:
    assert RING.identify(key).name == name


def test_a_name_that_is_listed_twice_has_two_keys() -> None:
    ring = KeyRing.of_pairs((("alice", "the-old-one"), ("alice", "the-new-one")))
    assert [ring.identify(key).name for key in ("the-old-one", "the-new-one")] == ["alice", "alice"]


@pytest.mark.parametrize("key", [None, "", "alice", "alice-key-1 ", "ALICE-KEY-1", "ключ", "\udcff", "x" * 100_000])
def test_any_other_key_is_refused_without_being_repeated(key: str | None) -> None:
    with pytest.raises(Unauthenticated) as error:
        RING.identify(key)
    assert not key or len(key) < 8 or key not in error.value.message


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
        RING.identify(presented)
    assert compared == [32] * len(PAIRS)


def test_a_table_says_everything_of_a_key() -> None:
    text = f"""
    # For the web page.
    [web]
    sha256 = ["{DIGEST}", "{"0" * 64}"]
    scopes = ["predict", "streams"]
    requests_per_s = 5
    burst = 20
    gflop = 1e6
    gflop_window_s = 100
    [batch]
    key = "batch-key-of-old"
    requests_per_s = 0.5
    gflop = 3600
    """
    web, batch = read_keys(text).keys
    assert web == ApiKey(
        "web",
        (bytes.fromhex(DIGEST), bytes(32)),
        frozenset({Scope.PREDICT, Scope.STREAMS}),
        Allowance(20, 5),
        Allowance(1e6, 1e4),
    )
    # A burst of one at least, an hour, and everything.
    assert batch == ApiKey(
        "batch",
        (sha256(b"batch-key-of-old").digest(),),
        requests=Allowance(1, 0.5),
        gflop=Allowance(3600, 1),
    )
    assert read_keys(text).identify(SECRET).name == "web"
    assert SECRET not in repr(web)
    assert DIGEST not in repr(web)


def test_pairs_may_stand_in_the_file_too() -> None:
    """As they did before there were tables; a key may end like base64."""
    ring = read_keys("alice:alice-key==,\n bob:bob-key-22\n")
    assert [key.name for key in ring.keys] == ["alice", "bob"]
    assert ring.identify("alice-key==").scopes == frozenset(Scope) - {Scope.CONTROL}


@pytest.mark.parametrize(
    "text",
    [
        "alice:alice-key-1\nbob:bob-key-22\n",
        "alice:alice-key-1\r\nbob:bob-key-22",
        " alice : alice-key-1 ,\n\n bob:bob-key-22,",
    ],
)
def test_pairs_may_have_lines_of_their_own(text: str) -> None:
    """As a block of YAML or an editor puts them: what follows a line's end is no part of the key before it."""
    assert pairs_of(text) == PAIRS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no key"),
        ("\n", "holds no key"),
        (f"web:{SECRET[:5]}", "name:key pairs"),
        (
            f"web:{SECRET}\u00fc",
            "printable ASCII",
        ),  # curl would send it as UTF-8, a browser as Latin-1, gRPC not at all
        (f"web:{SECRET}\x7f", "printable ASCII"),
        (f'[web]\nkey = "{SECRET}\u00fc"', "printable ASCII"),
        ("[web]\n", r"\[web\] needs sha256 or key"),
        (f'[web]\nsha256 = "{SECRET}"', "64 hexadecimal"),
        (f"[web]\nsha256 = {SECRET}", r"is no TOML \(line 2, column 10\)"),
        ('[web]\nkey = "short"', "at least 8 characters"),
        (f'[web]\nkey = "{SECRET}"\nscope = "predict"', "nothing else"),
        (f'[web]\nkey = "{SECRET}"\nscopes = ["all"]', "scopes may be predict, jobs, clips, streams, admin"),
        (f'[web]\nkey = "{SECRET}"\nscopes = [1]', "a text or a list"),
        (f'[web]\nkey = "{SECRET}"\nrequests_per_s = 0', "from 1e-06"),
        (f'[web]\nkey = "{SECRET}"\nrequests_per_s = "5"', "must be a number"),
        (f'[web]\nkey = "{SECRET}"\nrequests_per_s = nan', "must be a number"),
        (f'[web]\nkey = "{SECRET}"\nrequests_per_s = true', "must be a number"),
        (f'[web]\nkey = "{SECRET}"\nburst = 5', "without requests_per_s"),
        (f'[web]\nkey = "{SECRET}"\ngflop_window_s = 5', "without gflop"),
        (f'[web]\nkey = "{SECRET}"\nburst = 0.5\nrequests_per_s = 1', "from 1 to"),
        (f'[web]\nkey = "{SECRET}"\n[two]\nsha256 = "{DIGEST}"', "web and two have the same key"),
        (f'["w w"]\nkey = "{SECRET}"', "a name must have"),
        (f'[web]\nkey = "{SECRET}"\n[web]\nkey = "{SECRET}x"', "is no TOML"),
        (f'[web.sub]\nkey = "{SECRET}"', "nothing else"),
        (f'alone = "{SECRET}"\n[web]\nkey = "{SECRET}"', "must be a table"),
    ],
)
def test_content_that_cannot_be_used_is_named_and_not_repeated(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        read_keys(text)
    assert SECRET[:5] not in str(error.value)
    assert DIGEST[:8] not in str(error.value)


@given(st.text(max_size=80))
def test_any_text_is_keys_or_an_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_keys(text).keys


def test_a_scope_that_a_key_lacks_is_named() -> None:
    key = ApiKey("web", (), frozenset({Scope.PREDICT}))
    key.check(None)
    key.check(Scope.PREDICT)
    with pytest.raises(PermissionDenied, match="'clips'") as error:
        key.check(Scope.CLIPS)
    assert error.value.reason == "scope_clips"


def test_a_withdrawn_name_is_not_known_any_more() -> None:
    assert RING.named("bob").name == "bob"
    with pytest.raises(Unauthenticated):
        RING.named("carol")
