"""URLs of the web in one form, so that two which lead to the same place compare as equal."""

from __future__ import annotations

import ipaddress
import re
import string
import unicodedata
from urllib.parse import unquote

#: Characters of a URL at most.
MAX_LENGTH = 2048
#: Times that a path is decoded to see what it may be read as.
MOST_READINGS = 4
_PORTS = {"http": 80, "https": 443}
#: What RFC 3986 lets stand in a path or query as it is.
_PLAIN = frozenset(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/?%")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_AUTHORITY = re.compile(r"(?P<host>[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:(?P<port>\d{0,9}))?", re.ASCII)
#: What ends a host that resolvers take for an address.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})?")


def normal_url(url: str) -> str:
    """Return `url` in lower case up to its path, without a default port, and with nothing encoded that need not be.

    Raises ValueError, which holds no part of the URL, for what two programs may read in two ways: a user, a fragment,
    dot segments however they are written, an encoded slash or backslash, control characters, bytes that are no UTF-8,
    addresses in an unusual form, characters that no URL holds.
    """
    if len(url) > MAX_LENGTH:
        raise ValueError(f"it may have at most {MAX_LENGTH} characters")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise ValueError("it must begin with http:// or https://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if not set(tail) <= _PLAIN:
        raise ValueError("its path or query holds a character that must be percent-encoded, or a fragment")
    path, question, query = tail.partition("?")
    path = _ENCODED.sub(_decoded, path) or "/"
    _check_readings(path)
    return f"{scheme}://{_normal_authority(scheme, authority)}{path}{question}{query}"


def _normal_authority(scheme: str, authority: str) -> str:
    if "@" in authority:
        raise ValueError("it holds a user")
    match = _AUTHORITY.fullmatch(authority.lower())
    port = int(match["port"] or _PORTS[scheme]) if match else 0
    if match is None or not 0 < port < 2**16:
        raise ValueError("it holds no plain host and port")
    host = _normal_host(match["host"].removesuffix("."))
    return host if port == _PORTS[scheme] else f"{host}:{port}"


def _normal_host(host: str) -> str:
    """Return an IPv6 address in its shortest form, a name as it is.

    Raises ValueError for an address in any form but the usual one: resolvers read `127.1`, `0x7f.1` and `2130706433` as
    addresses, too.
    """
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return str(ipaddress.IPv4Address(host))
    except ipaddress.AddressValueError:
        raise ValueError("its host is an address in an unusual form") from None
    return host


def _check_readings(path: str) -> None:
    """Raise ValueError if a server that decodes `path` once more, or more often, may see other segments than we do."""
    text = path
    for _ in range(MOST_READINGS):
        try:
            reading = unicodedata.normalize("NFKC", unquote(text, errors="strict"))
        except UnicodeDecodeError:
            raise ValueError("its path holds bytes that are no UTF-8") from None
        if any(unicodedata.category(character) == "Cc" for character in reading):
            raise ValueError("its path holds a control character")
        # Some servers take what follows a semicolon, and spaces at the end, for no part of the name.
        if any(segment.partition(";")[0].strip() in (".", "..") for segment in reading.split("/")):
            raise ValueError("its path holds a dot segment")
        if reading.count("/") != path.count("/") or "\\" in reading:
            raise ValueError("its path holds an encoded slash")
        if reading == text:
            return
        text = reading
    raise ValueError("its path is encoded too often")


def _decoded(match: re.Match[str]) -> str:
    """Return an encoded character as itself where that means the same, else with its digits in upper case."""
    if match[1] is None:
        raise ValueError("it holds a % that encodes nothing")
    character = chr(int(match[1], 16))
    if character in "/\\":
        raise ValueError("its path holds an encoded slash")
    return character if character in _UNRESERVED else match[0].upper()
