"""The one policy of who may ask: keys, their scopes, and how much each may ask for. Every edge comes here.

Knows no transport: an edge brings the key and the scope that what is asked needs. Where levels are kept is a
`Limiter`'s: in this process, or in Redis for several front ends together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from service.core.api_keys import ANYBODY, ApiKey, KeyRing, Scope, digest_of
from service.core.errors import PermissionDenied, RateLimited, ServiceError
from service.core.interfaces import Engine
from service.core.quota import GFLOP, REQUESTS, Quota
from service.core.token_bucket import Allowance, BucketLevel, Demand, take
from service.core.types import PredictRequest, PredictResult
from service.telemetry.metrics import Metrics

#: Label of refusals that no size has.
NO_BUCKET = "none"


@dataclass(frozen=True, slots=True)
class Grant:
    """What was left after a request was counted; `wait` seconds where it was not taken, for the unit `short`."""

    quotas: tuple[Quota, ...] = ()
    wait: float = 0.0

    @property
    def short(self) -> str:
        """Return the unit that is waited for longest."""
        return max(self.quotas, key=lambda quota: quota.reset_s if not quota.remaining else -1).unit


class Limiter(Protocol):
    """Keeps how much each caller has left."""

    async def take(self, key: ApiKey) -> Grant:
        """Count one request of this caller, if its allowances have room. The key has one allowance at least."""
        ...


class LocalLimiter:
    """Keeps levels in this process. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: dict[tuple[str, str], tuple[Allowance, BucketLevel]] = {}

    async def take(self, key: ApiKey) -> Grant:
        """Count one request as `Limiter.take`."""
        return self.take_now(key)

    def take_now(self, key: ApiKey) -> Grant:
        """Count one request as `take`, without waiting for anything."""
        allowances = allowances_of(key)
        demands = [Demand(allowance, self._level(key.name, unit), cost) for unit, allowance, cost in allowances]
        levels, wait = take(demands, self._clock())
        quotas = []
        for (unit, allowance, _), level in zip(allowances, levels, strict=True):
            self._levels[key.name, unit] = allowance, level
            quotas.append(Quota(unit, allowance, level))
        return Grant(tuple(quotas), wait)

    def charge(self, client: str, flops: int) -> None:
        """Take what a prediction cost from its caller's budget; nothing where there is none."""
        if (entry := self._levels.get((client, GFLOP))) is not None:
            allowance, level = entry
            now = self._clock()
            tokens = Demand(allowance, level, 0).filled(now).tokens - flops / 1e9
            self._levels[client, GFLOP] = allowance, BucketLevel(tokens, now)

    def _level(self, client: str, unit: str) -> BucketLevel | None:
        entry = self._levels.get((client, unit))
        return None if entry is None else entry[1]


def allowances_of(key: ApiKey) -> tuple[tuple[str, Allowance, float], ...]:
    """List the allowances that a key has: unit, allowance, and the tokens that one request takes at once."""
    pairs = ((REQUESTS, key.requests, 1.0), (GFLOP, key.gflop, 0.0))
    return tuple((unit, allowance, cost) for unit, allowance, cost in pairs if allowance is not None)


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """What the policy says of one request: whose it is, what they have left, and why it is refused, if it is."""

    client: str = ""
    quotas: tuple[Quota, ...] = ()
    refusal: ServiceError | None = None
    key_digest: bytes = field(default=b"", repr=False)  #: of the key that was shown

    def check(self) -> None:
        """Raise the refusal, if there is one."""
        if self.refusal is not None:
            raise self.refusal


class AccessPolicy:
    """Decides over keys, which may be exchanged while requests are answered; levels outlive that."""

    def __init__(self, keys: KeyRing, limiter: Limiter, metrics: Metrics) -> None:
        self._keys = keys
        self._limiter = limiter
        self._metrics = metrics

    def use(self, keys: KeyRing) -> None:
        """Decide over these keys from now on."""
        self._keys = keys

    @property
    def is_open(self) -> bool:
        """Tell whether no key is needed."""
        return not self._keys.keys

    async def admit(self, api_key: str | None, scope: Scope | None) -> AccessDecision:
        """Decide over a request and count it. Raises Unauthenticated where nobody known asks."""
        key = self._keys.identify(api_key)
        digest = b"" if key is ANYBODY or api_key is None else digest_of(api_key)
        try:
            key.check(scope)
        except PermissionDenied as error:
            return AccessDecision(key.name, refusal=error, key_digest=digest)
        return replace(await self._count(key), key_digest=digest)

    async def admit_next(self, client: str, scope: Scope, key_digest: bytes = b"") -> None:
        """Count a further request of a caller who was admitted: a message of the stream that its key opened.

        Raises what `admit` or its decision would: keys are withdrawn and budgets run out while a stream goes on.
        """
        key = self._keys.named(client, key_digest) if client else None
        if key is not None:
            key.check(scope)
            (await self._count(key)).check()

    def require(self, client: str, scope: Scope, key_digest: bytes = b"") -> None:
        """Raise PermissionDenied if a caller who was admitted, by a key of this digest, lacks a further scope.

        Raises Unauthenticated where the key is known no more.
        """
        if client:
            self._keys.named(client, key_digest).check(scope)

    def grants(self, scope: Scope) -> bool:
        """Tell whether any key has this scope."""
        return any(scope in key.scopes for key in self._keys.keys)

    async def _count(self, key: ApiKey) -> AccessDecision:
        if key.requests is None and key.gflop is None:
            return AccessDecision(key.name)
        grant = await self._limiter.take(key)
        if grant.wait <= 0:
            return AccessDecision(key.name, grant.quotas)
        self._metrics.rejected(f"rate_{grant.short}", NO_BUCKET)
        noun = "requests" if grant.short == REQUESTS else "FLOPs"
        error = RateLimited(
            f"this API key has used up its {noun}; more in {grant.wait:.1f} s",
            retry_after=grant.wait,
            reason=grant.short,
        )
        return AccessDecision(key.name, grant.quotas, error)


class ChargingEngine:
    """An engine that has each answer's FLOPs taken from its caller's budget, whichever edge or job it is for."""

    def __init__(self, engine: Engine, charge: Callable[[str, int], None]) -> None:
        self._engine = engine
        self._charge = charge
        self.readiness, self.model, self.debug = engine.readiness, engine.model, getattr(engine, "debug", None)

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Predict as the engine does, then charge."""
        result = await self._engine.predict(request)
        self._charge(request.client, result.flops)
        return result
