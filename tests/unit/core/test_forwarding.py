"""Whose word counts on where a request came from."""

from __future__ import annotations

import pytest

from service.core.forwarding import MOST_HOPS, TrustedProxies, caller_of

PROXIES = TrustedProxies.of(("10.0.0.0/8", "::1", "192.0.2.7"))


@pytest.mark.parametrize(
    ("peer", "fields", "caller"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.168.0.1, 198.51.100.1"], "198.51.100.1"),  # what the caller itself wrote comes first
        ("10.0.0.1", ["198.51.100.1", "10.3.0.1"], "198.51.100.1"),  # two proxies, a field each
        ("10.0.0.1", ["198.51.100.1, 10.3.0.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.4.0.1, 10.3.0.1"], "10.4.0.1"),  # nobody but proxies
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, what, 10.3.0.1"], "10.3.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::1", ["[2001:db8::5]:4711"], "2001:db8::5"),
        ("::1", ["2001:DB8:0::5"], "2001:db8::5"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),
        ("10.0.0.1", [",,,"], "10.0.0.1"),
    ],
)
def test_a_caller_is_whom_the_last_trusted_proxy_names(peer: str, fields: list[str], caller: str) -> None:
    assert PROXIES.caller(peer, fields) == caller


def test_without_proxies_the_field_means_nothing() -> None:
    assert TrustedProxies().caller("127.0.0.1", ["198.51.100.1"]) == "127.0.0.1"


@pytest.mark.parametrize("proxies", [TrustedProxies(), PROXIES])
def test_a_caller_has_one_address_whatever_the_socket_is_for(proxies: TrustedProxies) -> None:
    """One that listens on `::` shows IPv4 in IPv6's form; a share of places must not be had twice."""
    assert proxies.caller("::ffff:203.0.113.9", []) == "203.0.113.9"
    assert proxies.caller("::ffff:1:2", []) == "::ffff:1:2"


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:aaaa:bbbb:cccc:dddd", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_all_addresses_that_one_caller_of_ipv6_has_are_one_caller(address: str, caller: str) -> None:
    """Each was a caller of its own, with a share of places, turns, jobs and clips for itself."""
    assert caller_of(address) == caller


def test_a_row_of_hops_has_an_end() -> None:
    hops = ",".join(["198.51.100.1", *["10.0.0.2"] * MOST_HOPS])
    assert PROXIES.caller("10.0.0.1", [hops]) == "10.0.0.2"


@pytest.mark.parametrize("word", ["example.com", "10.0.0.1/33", "10.0.0.7/8", ""])
def test_what_is_no_network_is_refused(word: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        TrustedProxies.of((word,))


@pytest.mark.parametrize(
    ("peer", "fields", "host"),
    [
        ("10.0.0.1", ["dmvfn.example:8443"], "dmvfn.example:8443"),
        ("10.0.0.1", ["evil.example, dmvfn.example"], "dmvfn.example"),  # what the caller itself wrote comes first
        ("10.0.0.1", ["evil.example", "dmvfn.example"], "dmvfn.example"),
        ("10.0.0.1", [], None),
        ("203.0.113.9", ["dmvfn.example"], None),  # no proxy of ours
    ],
)
def test_what_the_service_is_called_is_what_the_last_trusted_proxy_says(
    peer: str, fields: list[str], host: str | None
) -> None:
    assert PROXIES.host(peer, fields) == host
    assert TrustedProxies().host(peer, fields) is None


@pytest.mark.parametrize(
    ("peer", "fields", "prefix"),
    [
        ("10.0.0.1", ["/dmvfn"], "/dmvfn"),
        ("10.0.0.1", ["/video/dmvfn/"], "/video/dmvfn"),
        ("10.0.0.1", ["/video, /dmvfn"], "/video/dmvfn"),  # two proxies, each of which took a part
        ("10.0.0.1", ["/video", "/dmvfn"], "/video/dmvfn"),
        ("10.0.0.1", ["/"], ""),
        ("10.0.0.1", [], ""),
        ("10.0.0.1", ["//evil.example"], ""),
        ("10.0.0.1", ["https://evil.example"], ""),
        ("10.0.0.1", ["dmvfn"], ""),
        ("10.0.0.1", ["/a b"], ""),
        ("10.0.0.1", ["/\u00e4"], ""),
        ("10.0.0.1", ["/a\r\nSet-Cookie: b"], ""),
        ("10.0.0.1", ["/" + 300 * "a"], ""),
        ("203.0.113.9", ["/dmvfn"], ""),  # no proxy of ours
    ],
)
def test_a_prefix_is_what_trusted_proxies_took_from_the_path(peer: str, fields: list[str], prefix: str) -> None:
    assert PROXIES.prefix(peer, fields) == prefix
    assert TrustedProxies().prefix(peer, fields) == ""
