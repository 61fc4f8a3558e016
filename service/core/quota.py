"""What a caller may still ask for, and how that is written in the fields `RateLimit-Policy` and `RateLimit`.

The fields are those of the IETF's draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10):
lists of structured fields (RFC 9651), one item an allowance. gRPC carries the same text as metadata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.core.token_bucket import LEAST, Allowance, BucketLevel, seconds_until

#: The allowances' names, which are their units, too.
REQUESTS, GFLOP = "requests", "gflop"
#: As they are called in HTTP (in any case) and in gRPC's metadata (in lower case).
POLICY_FIELD, LIMIT_FIELD = "ratelimit-policy", "ratelimit"
#: The largest integer that a structured field can hold.
_LARGEST = 10**15 - 1


@dataclass(frozen=True, slots=True)
class Quota:
    """An allowance and how much of it is left."""

    unit: str
    allowance: Allowance
    level: BucketLevel

    @property
    def remaining(self) -> int:
        """Return the whole tokens that are left; 0 in debt."""
        return _whole(max(0.0, self.level.tokens))

    @property
    def reset_s(self) -> int:
        """Return the seconds until all is there again; where nothing is left, until the next request is taken."""
        tokens = self.allowance.capacity if self.level.tokens >= LEAST else LEAST
        return math.ceil(seconds_until(tokens, self.allowance, self.level))


def policy_field(quotas: Sequence[Quota]) -> str:
    """Write the allowances: q is the quota, w the seconds in which it comes back, qu its unit if no requests."""
    return ", ".join(
        f'"{quota.unit}";q={_whole(quota.allowance.capacity)};w={max(1, math.ceil(quota.allowance.window))}'
        + ("" if quota.unit == REQUESTS else f';qu="{quota.unit}"')
        for quota in quotas
    )


def limit_field(quotas: Sequence[Quota]) -> str:
    """Write what is left: r is the rest, t the seconds of `Quota.reset_s`."""
    return ", ".join(f'"{quota.unit}";r={quota.remaining};t={quota.reset_s}' for quota in quotas)


def _whole(tokens: float) -> int:
    return min(_LARGEST, math.floor(tokens))
