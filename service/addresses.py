"""Addresses and URLs among the settings: refused where they cannot be used, or would be read otherwise than meant.

Such a value may hold a password in any place, so that no ValueError raised here holds any part of it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from service.core.forwarding import TrustedProxies
from service.core.urls import normal_url


def authority(host: str, port: int) -> str:
    """Write a host and a port as they stand in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def words_of(text: str) -> tuple[str, ...]:
    """Split a comma-separated text; return its words without spaces around them, the empty ones left out."""
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def redis_url(text: str) -> str:
    """Return `text`, or refuse a URL that redis-py cannot use or would misread; ValueErrors hold no part of it."""
    apart = "a password with special characters must be percent-encoded, or be given apart: DMVFN_REDIS_PASSWORD"
    if not text.isprintable() or " " in text:
        raise ValueError("must be one URL without spaces")
    if not re.match(r"(redis|rediss|unix)://", text):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    if re.search(r"%(?![0-9A-Fa-f]{2})", text) or "#" in text:
        raise ValueError(f"holds a # or a % that encodes nothing; {apart}")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(f"has no usable host and port; {apart}") from None
    unix = url.scheme == "unix"
    # `redis://user:1/2@host` parses as host `user`, port 1: an @ behind the host means that a password was cut.
    cut = "@" in url.query or (not unix and "@" in url.path) or (unix and url.netloc and "@" not in url.netloc)
    if cut or url.netloc.count("@") > 1 or port == 0:
        raise ValueError(f"has no usable host and port; {apart}")
    if unix and not url.path.strip("/"):
        raise ValueError("must name a socket's path")
    if not unix and not re.fullmatch(r"/?([0-9]{1,6})?", unquote(url.path)):
        raise ValueError("must end in the host and port, or in a database's number")
    return text


def sentinels(text: str) -> tuple[str, ...]:
    """Read addresses, host:port, separated by commas."""
    words = words_of(text)
    for word in words:
        host, _, port = word.rpartition(":")
        bare = re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(%\w+)?\]", host)
        if not bare or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise ValueError("must be addresses like sentinel-0:26379,sentinel-1:26379")
    return words


def endpoint(text: str) -> str:
    """Check an OTLP endpoint: a host and a port, with http:// or https:// or without."""
    message = "must be an address like http://localhost:4317, without a path, user or password"
    if not re.fullmatch(r"(https?://)?([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?", text):
        raise ValueError(message)
    try:
        port = urlsplit(text if "://" in text else f"//{text}").port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(message)
    return text


def store_endpoint(text: str) -> str:
    """Check the URL of an S3-compatible service. A user or password is refused: those stand apart."""
    host = r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
    if not re.fullmatch(rf"https?://{host}(:[0-9]{{1,5}})?(/[!-~]*)?", text) or "?" in text or "#" in text:
        raise ValueError("must be a URL like http://minio:9000, without user and password")
    return text


def prefixes(text: str) -> tuple[str, ...]:
    """Read URL prefixes, separated by commas."""
    urls = []
    for prefix in words_of(text):
        # Without the slash, https://hooks.example would also allow https://hooks.example.evil.net.
        if "?" in prefix or not prefix.endswith("/") or prefix.count("/") < 3:
            raise ValueError("must be URLs like https://hooks.example.com/dmvfn/ that end in a slash")
        try:
            urls.append(normal_url(prefix))
        except ValueError as error:
            raise ValueError(f"must be URLs like https://hooks.example.com/dmvfn/: {error}") from None
    return tuple(urls)


def host_names(text: str) -> tuple[str, ...]:
    """Read names and addresses that Host may have, separated by commas: no scheme, no port; `*` at the front only."""
    names = words_of(text.lower())
    for name in names:
        # As a name, `example.com:8000` would match no request: ports are not compared.
        if not re.fullmatch(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]+", name) or _has_port(name):
            raise ValueError("must be names like dmvfn.example.com,*.internal,10.0.0.7, without scheme, port or path")
    return names


def networks(text: str) -> tuple[str, ...]:
    """Read addresses and networks, separated by commas."""
    words = words_of(text)
    try:
        TrustedProxies.of(words)
    except ValueError:
        raise ValueError("must be addresses or networks like 10.0.0.7,10.1.0.0/16,fd00::/8") from None
    return words


def _has_port(name: str) -> bool:
    """Tell a name with a port from an IPv6 address, which has two colons at least."""
    return name.count(":") == 1


def object_store(text: str) -> str:
    """Parse `s3://BUCKET/PREFIX` or `file:///FOLDER`."""
    address = urlsplit(text)
    is_bucket = address.scheme == "s3" and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", address.netloc)
    is_folder = address.scheme == "file" and not address.netloc and address.path.strip("/")
    if not (is_bucket or is_folder) or address.query or address.fragment:
        raise ValueError("must be s3://BUCKET/PREFIX or file:///FOLDER")
    return text.rstrip("/")
