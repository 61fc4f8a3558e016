"""Which names a server answers to."""

from __future__ import annotations

import pytest

from service.core.host_names import HostNames, is_loopback, name_of


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.:8000", "example.com"),
        ("[::1]:8000", "::1"),
        ("127.0.0.1:", "127.0.0.1"),
        ("user@localhost", ""),
        ("localhost/evil.example", ""),
        ("::1", ""),
        ("", ""),
    ],
)
def test_a_name_is_what_stands_before_the_port(header: str, name: str) -> None:
    assert name_of(header) == name


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("::", False)]
)
def test_loopback_is_known_by_its_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_by_default_loopback_answers_to_its_own_names_and_other_addresses_to_all() -> None:
    local = HostNames.serving((), "127.0.0.1")
    assert [local.admit(host) for host in ("localhost:1", "a.localhost", None)] == [True] * 3
    assert [local.admit(host) for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1.nip.io")] == [
        False
    ] * 4
    assert HostNames.serving((), "0.0.0.0").admit("evil.example")


def test_names_of_the_settings_take_the_place_of_the_default() -> None:
    named = HostNames.serving(("Dmvfn.example", "*.in.house"), "127.0.0.1")
    assert [named.admit(host) for host in ("dmvfn.example:443", "a.b.in.house")] == [True, True]
    assert [named.admit(host) for host in ("localhost", "in.house", "xin.house")] == [False] * 3
