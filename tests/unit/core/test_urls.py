"""URLs in one form: what leads to the same place is equal, what two programs may read in two ways is refused."""

from __future__ import annotations

import pytest

from service.core.errors import InvalidRequest
from service.core.urls import normal_url
from service.serving.jobs.job import Hooks


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://H.Example.:443/A", "https://h.example/A"),
        ("https://h", "https://h/"),
        ("http://h:0080/x", "http://h/x"),
        ("http://h:443/x", "http://h:443/x"),
        ("https://h/%7Euser/%e2%82%ac", "https://h/~user/%E2%82%AC"),
        ("https://h/100%25/a;v=1/...", "https://h/100%25/a;v=1/..."),
        ("https://h/x?next=/../%2e%2e/", "https://h/x?next=/../%2e%2e/"),
        ("https://[0:0:0:0:0:0:0:1]:443/d/", "https://[::1]/d/"),
        ("https://[2001:DB8::0:1]:8443/", "https://[2001:db8::1]:8443/"),
        ("https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/"),
        ("https://[::ffff:7F00:0001]/", "https://[::ffff:7f00:1]/"),
        ("https://127.0.0.1./", "https://127.0.0.1/"),
    ],
)
def test_one_place_has_one_form(url: str, normal: str) -> None:
    assert normal_url(url) == normal
    assert normal_url(normal) == normal


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("..", "dot segment"),
        ("%2e%2E", "dot segment"),
        (".", "dot segment"),
        ("..;", "dot segment"),
        (".;a=b", "dot segment"),
        ("..%3Bx", "dot segment"),
        ("..%20", "dot segment"),
        ("%252e%252e", "dot segment"),
        ("%25%32%65%25%32%65", "dot segment"),
        ("%25252e%25252e", "dot segment"),
        ("%EF%BC%8E%EF%BC%8E", "dot segment"),
        ("%2f..", "encoded slash"),
        ("%5c..%5c", "encoded slash"),
        ("%252f", "encoded slash"),
        ("%255c", "encoded slash"),
        ("%EF%BC%8F", "encoded slash"),
        ("%c0%ae%c0%ae", "no UTF-8"),
        ("%ff", "no UTF-8"),
        ("%00", "control character"),
        ("a%0d%0aHost:x", "control character"),
        ("%25250a", "control character"),
        ("%252525252541", "encoded too often"),
        ("%", "encodes nothing"),
        ("%u002e", "encodes nothing"),
        ("é", "percent-encoded"),
        ("\\..", "percent-encoded"),
        ("#x", "fragment"),
    ],
)
def test_a_path_that_may_be_read_in_two_ways_is_refused(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        normal_url(f"https://h.example/hooks/{path}/x")
    assert "h.example" not in str(error.value)


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.01", "256.1.1.1", "1.2.3", "[:::::]"),
        *("[1.2.3.4]", "[::1", "[fe80::1%25eth0]", "h..", "%68", "u@h", "u:p@h", "h:0", "h:65536", "h:-1", "", "h\\x"),
    ],
)
def test_a_host_in_an_unusual_form_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"host|user"):
        normal_url(f"https://{host}/hooks/")


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("HTTPS://Hooks.Example:443/dmvfn/x", True),
        ("https://hooks.example./%64mvfn/x", True),
        ("https://[0::0:1]/x", True),
        ("https://hooks.example/dmvfn", False),
        ("https://hooks.example/DMVFN/x", False),
        ("https://hooks.example/dmvfn/..;/x", False),
        ("https://hooks.example/dmvfn/%252e%252e/x", False),
        ("https://hooks.example:8443/dmvfn/x", False),
        ("http://hooks.example/dmvfn/x", False),
        ("https://hooks.example.evil.example/dmvfn/x", False),
        ("https://[::2]/x", False),
    ],
)
def test_prefixes_hold_for_every_spelling(url: str, is_allowed: bool) -> None:
    hooks = Hooks(("https://hooks.example/dmvfn/", "https://[::1]/"))
    if is_allowed:
        assert hooks.check(url) == normal_url(url)
    else:
        with pytest.raises(InvalidRequest):
            hooks.check(url)
