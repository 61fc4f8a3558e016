"""Whence a request came, and to what address, where proxies that are trusted hand on what others ask.

Anybody may write X-Forwarded-For, so that it is read from its end, and only as far as trusted proxies wrote it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: As the field is called in HTTP and in gRPC's metadata.
FORWARDED_FIELD = "x-forwarded-for"
#: What the service was called as at the proxy, and below which path: HTTP's alone.
HOST_FIELD, PREFIX_FIELD = "x-forwarded-host", "x-forwarded-prefix"
#: Bits of an IPv6 address that one caller is given: every machine has all addresses behind them (RFC 4291, 6177).
CALLERS_BITS = 64
#: Hops that are looked at: more proxies than stand in a row anywhere.
MOST_HOPS = 32
#: Parts of a prefix, of at most 255 characters: nothing that would make it another host's address.
_PREFIX = re.compile(r"(?=.{0,255}$)(?:/[A-Za-z0-9._~-]+)*", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Networks of the proxies whose word counts; none: nobody's."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, words: Iterable[str]) -> TrustedProxies:
        """Take addresses and networks such as "10.0.0.7" and "10.1.0.0/16". Raises ValueError for anything else."""
        return cls(tuple(ipaddress.ip_network(word) for word in words))

    def caller(self, peer: str, fields: Sequence[str]) -> str:
        """Return the address of whoever asked: `peer`, or the last one named by those that are trusted.

        `peer`: the address at the other end of the connection; `fields`: the values of X-Forwarded-For, in order. What
        is no address ends the row: the proxy that wrote it is then the caller.
        """
        # A socket for both kinds shows IPv4 as ::ffff:10.0.0.7.
        if peer.startswith("::ffff:") and "." in peer:
            peer = peer.removeprefix("::ffff:")
        if not self.networks or not self._trusts(_address_of(peer)):
            return peer
        hops = [hop for value in fields for hop in value.split(",")]
        caller = peer
        for hop in hops[: -MOST_HOPS - 1 : -1]:
            address = _address_of(hop)
            if address is None:
                break
            caller = str(address)
            if not self._trusts(address):
                break
        return caller

    def host(self, peer: str, fields: Sequence[str]) -> str | None:
        """Return the Host that a proxy was asked by; None where it says none, or is not trusted.

        `fields`: the values of X-Forwarded-Host, of which the last is the nearest proxy's.
        """
        names = [name.strip() for value in fields for name in value.split(",")]
        return names[-1] if names and self._trusts(_address_of(peer)) else None

    def prefix(self, peer: str, fields: Sequence[str]) -> str:
        """Return the path below which proxies pass on requests, such as "/dmvfn"; "" where none that is trusted says.

        `fields`: the values of X-Forwarded-Prefix; each proxy adds what it took away.
        """
        if not fields or not self._trusts(_address_of(peer)):
            return ""
        parts = [part.strip().rstrip("/") for value in fields for part in value.split(",")]
        prefix = "".join(parts)
        return prefix if _PREFIX.fullmatch(prefix) else ""

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


@lru_cache(maxsize=1024)
def caller_of(address: str) -> str:
    """Return whom an address counts as: of IPv6 its network, as one caller has millions of millions of addresses in it.

    What is no address, and a loopback one, is returned as it is.
    """
    ip = _address_of(address)
    if not isinstance(ip, ipaddress.IPv6Address) or ip.is_loopback:
        return address
    return str(ipaddress.ip_network((int(ip), CALLERS_BITS), strict=False))


def _address_of(text: str) -> Address | None:
    """Read an address as proxies write it: with a port or without, IPv6 in brackets or bare; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
