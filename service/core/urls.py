"""URLs of the web in one form, so that two which lead to the same place compare as equal."""

from __future__ import annotations

import re
import string

#: Characters of a URL at most.
MAX_LENGTH = 2048
_PORTS = {"http": 80, "https": 443}
#: What RFC 3986 lets stand in a path or query as it is.
_PLAIN = frozenset(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/?%")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_AUTHORITY = re.compile(r"(?P<host>[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:(?P<port>\d{0,9}))?", re.ASCII)
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})?")


def normal_url(url: str) -> str:
    """Return `url` with scheme and host in lower case, no default port, and unreserved characters not encoded.

    Raises ValueError, which holds no part of the URL, for what two programs may read in two ways: a user, a fragment,
    dot segments, an encoded slash or backslash, characters that no URL holds.
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
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("its path holds a dot segment")
    return f"{scheme}://{_normal_authority(scheme, authority)}{path}{question}{query}"


def _normal_authority(scheme: str, authority: str) -> str:
    if "@" in authority:
        raise ValueError("it holds a user")
    match = _AUTHORITY.fullmatch(authority.lower())
    port = int(match["port"] or _PORTS[scheme]) if match else 0
    if match is None or not 0 < port < 2**16:
        raise ValueError("it holds no plain host and port")
    host = match["host"].removesuffix(".")
    return host if port == _PORTS[scheme] else f"{host}:{port}"


def _decoded(match: re.Match[str]) -> str:
    """Return an encoded character as itself where that means the same, else with its digits in upper case."""
    if match[1] is None:
        raise ValueError("it holds a % that encodes nothing")
    character = chr(int(match[1], 16))
    if character in "/\\":
        raise ValueError("its path holds an encoded slash")
    return character if character in _UNRESERVED else match[0].upper()
