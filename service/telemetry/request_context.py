"""What is known of one request, whatever edge it came by: id, caller, trace, and what its log line will show."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from service.core.quota import Quota
from service.telemetry.tracing import Trace

#: What can stand in a header, a log line and a file name.
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")

Notes = dict[str, str | int | float | bool]


@dataclass(slots=True)
class RequestContext:
    """One request's, from its first byte to its log line. `began` is on the service's clock, seconds."""

    request_id: str
    began: float
    trace: Trace
    client: str = ""  #: the API key's name; "" where no keys are set
    code: str | None = None  #: of the error it ended with
    stages: tuple[tuple[str, float], ...] = ()  #: name, seconds
    notes: Notes = field(default_factory=dict)  #: for log line and span
    reason: str | None = None  #: of that error, where it says more than the code
    quotas: tuple[Quota, ...] = ()  #: what its caller had left when it was admitted
    key_digest: bytes = field(default=b"", repr=False)  #: of the API key that was shown
    address: str = ""  #: whence it came, without a port, of IPv6 the network; "" where that is not known


def sharer(context: RequestContext) -> str:
    """Return whom a request's predictions take turns as: the key's name, else the address."""
    return context.client or (f"address {context.address}" if context.address else "")


def choose_id(*candidates: str | None) -> str:
    """Return the first id of the caller's that can stand in a header, a log line and a file name; else a new one."""
    for candidate in candidates:
        if candidate and _SANE_ID.fullmatch(candidate):
            return candidate
    return os.urandom(16).hex()
