"""Which names a server answers to: a page of a foreign name must not reach a server that only its machine should."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: The names of the machine itself; `*.localhost` is one of them by RFC 6761.
LOOPBACK = ("localhost", "*.localhost", "127.0.0.1", "::1")
ANY = "*"
_LOOPBACK_ADDRESS = re.compile(r"127(\.\d{1,3}){3}|::1|localhost")
_BRACKETED = re.compile(r"\[([0-9a-f:.]+)\](:\d{0,5})?")
_PLAIN = re.compile(r"([^\s:/@\[\]]+)(:\d{0,5})?")


def is_loopback(host: str) -> bool:
    """Tell whether a listening address is reached from its own machine only."""
    return _LOOPBACK_ADDRESS.fullmatch(host.lower()) is not None


# Nearly every request has the same; what others write is forgotten soon.
@lru_cache(maxsize=64)
def name_of(header: str) -> str:
    """Return the name or address in a Host header: lower case, no port, brackets or final dot; "" if it has none."""
    text = header.strip().lower()
    match = _BRACKETED.fullmatch(text) or _PLAIN.fullmatch(text)
    return match[1].rstrip(".") if match else ""


@dataclass(frozen=True, slots=True)
class HostNames:
    """Names that Host may have: whole ones, `*.example.com` for all below one, `*` for any."""

    names: tuple[str, ...]

    @classmethod
    def serving(cls, names: Sequence[str], listening: str) -> HostNames:
        """Return those of the settings; where they name none, the loopback's on a loopback address, else any."""
        if names:
            return cls(tuple(name.lower() for name in names))
        return cls((*LOOPBACK, listening.lower())) if is_loopback(listening) else cls((ANY,))

    def admit(self, header: str | None) -> bool:
        """Tell whether a request with this Host header is for this server. None: it has no such header."""
        if ANY in self.names or header is None:  # a browser, whose pages are what is guarded against, always sends one
            return True
        name = name_of(header)
        return name in self.names or any(
            pattern.startswith("*.") and name.endswith(pattern[1:]) and name != pattern[1:] for pattern in self.names
        )
