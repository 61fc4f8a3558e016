"""API keys as values: whose they are, what they open, how much may be asked with them; and the two forms they come in.

Knows neither files nor headers. No message here holds any part of a key or of its digest.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.core.errors import PermissionDenied, Unauthenticated
from service.core.token_bucket import Allowance

#: Characters of a key at least.
SHORTEST = 8
DEFAULT_WINDOW_S = 3600.0
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_TABLE = re.compile(r"^\s*\[", re.MULTILINE)
_PLACE = re.compile(r"\(at (line \d+, column \d+|end of document)\)")


class Scope(enum.StrEnum):
    """What a key opens. Reading what is served (models, metadata, statistics) takes any key and no scope."""

    PREDICT = "predict"  #: single predictions, by our API and by the Open Inference Protocol
    JOBS = "jobs"
    CLIPS = "clips"
    STREAMS = "streams"
    ADMIN = "admin"  #: what /debug shows
    METRICS = "metrics"  #: /metrics, where it needs a key at all
    CONTROL = "control"  #: loading and unloading versions of the weights; only where it is named


#: Of a key that names none: all but the one that changes what others are answered by.
USUAL_SCOPES = frozenset(Scope) - {Scope.CONTROL}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One caller: every key that has one of `digests` (SHA-256) is theirs. None: no limit of that kind."""

    name: str
    digests: tuple[bytes, ...] = field(repr=False)
    scopes: frozenset[Scope] = USUAL_SCOPES
    requests: Allowance | None = None
    gflop: Allowance | None = None

    def check(self, scope: Scope | None) -> None:
        """Raise PermissionDenied, naming the scope, if this key has it not."""
        if scope is not None and scope not in self.scopes:
            raise PermissionDenied(f"this API key lacks the scope {scope.value!r}", reason=f"scope_{scope.value}")


#: Whoever calls where no keys are set.
ANYBODY = ApiKey("", ())


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys that are known; none: everybody may do everything."""

    keys: tuple[ApiKey, ...] = ()

    @classmethod
    def of_pairs(cls, pairs: tuple[tuple[str, str], ...]) -> KeyRing:
        """Make the keys of (name, key) pairs, without limits; a name that is there twice has two keys."""
        digests: dict[str, tuple[bytes, ...]] = {}
        for name, key in pairs:
            digests[name] = (*digests.get(name, ()), digest_of(key))
        return cls(tuple(ApiKey(name, keys) for name, keys in digests.items()))

    def identify(self, api_key: str | None) -> ApiKey:
        """Return the caller of a presented key; ANYBODY where no keys are known. Raises Unauthenticated otherwise.

        Time tells nothing of the keys: digests of one length are compared, always all.
        """
        if not self.keys:
            return ANYBODY
        if api_key is None:
            raise Unauthenticated("an API key is needed: Authorization: Bearer KEY")
        digest = digest_of(api_key)
        match = None
        for key in self.keys:
            for other in key.digests:
                if hmac.compare_digest(digest, other):
                    match = key
        if match is None:
            raise Unauthenticated("this API key is not known")
        return match

    def named(self, name: str, digest: bytes = b"") -> ApiKey:
        """Return the key of a caller who was identified before, by the key of `digest` if it is given.

        Raises Unauthenticated if it is not known any more.
        """
        if not self.keys:
            return ANYBODY
        match = next((key for key in self.keys if key.name == name), None)
        if match is None or (digest and digest not in match.digests):
            raise Unauthenticated("this API key is no longer known")
        return match


def digest_of(api_key: str) -> bytes:
    """Return the SHA-256 of a key."""
    # surrogatepass: a header of arbitrary bytes must be refused, not crash.
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).digest()


def _can_be_sent(key: str) -> bool:
    """Tell whether a key is long enough, and one that every client can put into a header: gRPC's take ASCII only."""
    return len(key) >= SHORTEST and key.isascii() and key.isprintable()


def pairs_of(text: str) -> tuple[tuple[str, str], ...]:
    """Read `name:key` pairs, separated by commas or lines. Raises ValueError for anything else."""
    pairs = []
    for word in (part.strip() for part in re.split(r"[,\r\n]", text)):
        name, _, key = (part.strip() for part in word.partition(":"))
        if word and not (name and _can_be_sent(key)):
            raise ValueError(
                f"must be name:key pairs, keys of at least {SHORTEST} characters, all of them printable ASCII"
            )
        if word:
            pairs.append((name, key))
    return tuple(pairs)


def read_keys(text: str) -> KeyRing:
    """Read the content of a file of keys: TOML with a table for each name, or `name:key` pairs.

    Raises ValueError if it cannot be used, and if it holds no key: an empty file must not open the service.
    """
    if _TABLE.search(text):
        ring = KeyRing(tuple(_key_of(name, table) for name, table in _document(text).items()))
    else:
        ring = KeyRing.of_pairs(pairs_of(text))
    if not ring.keys:
        raise ValueError("holds no key")
    names: dict[bytes, str] = {}
    for key in ring.keys:
        for digest in key.digests:
            if names.setdefault(digest, key.name) != key.name:
                raise ValueError(f"{names[digest]} and {key.name} have the same key")
    return ring


def _document(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The parser's own words may repeat a piece of the text.
        place = _PLACE.search(str(error))
        raise ValueError(f"is no TOML ({place[1] if place else 'somewhere'})") from None


def _key_of(name: str, table: object) -> ApiKey:
    if not _NAME.fullmatch(name):
        raise ValueError("a name must have 1 to 64 letters, digits, dots, dashes and underscores")
    if not isinstance(table, dict):
        raise ValueError(f"[{name}] must be a table")
    members = {"key", "sha256", "scopes", "requests_per_s", "burst", "gflop", "gflop_window_s"}
    if not table.keys() <= members:
        raise ValueError(f"[{name}] may have {', '.join(sorted(members))}, nothing else")
    if "burst" in table and "requests_per_s" not in table:
        raise ValueError(f"[{name}] has a burst without requests_per_s")
    if "gflop_window_s" in table and "gflop" not in table:
        raise ValueError(f"[{name}] has a gflop_window_s without gflop")
    requests = gflop = None
    if "requests_per_s" in table:
        rate = _number(name, table, "requests_per_s", 1e-6, 1e6)
        burst = _number(name, table, "burst", 1, 1e6) if "burst" in table else max(1.0, rate)
        requests = Allowance(burst, rate)
    if "gflop" in table:
        capacity = _number(name, table, "gflop", 1, 1e12)
        window = _number(name, table, "gflop_window_s", 1, 1e8) if "gflop_window_s" in table else DEFAULT_WINDOW_S
        gflop = Allowance(capacity, capacity / window)
    return ApiKey(name, _digests(name, table), _scopes(name, table), requests, gflop)


def _digests(name: str, table: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return the digests of a table's `key` and `sha256`, each a text or a list of them."""
    digests = []
    for key in _texts(name, table, "key"):
        if not _can_be_sent(key):
            raise ValueError(f"[{name}] key must have at least {SHORTEST} characters, all of them printable ASCII")
        digests.append(digest_of(key))
    for text in _texts(name, table, "sha256"):
        if not _DIGEST.fullmatch(text):
            raise ValueError(f"[{name}] sha256 must be 64 hexadecimal digits")
        digests.append(bytes.fromhex(text))
    if not digests:
        raise ValueError(f"[{name}] needs sha256 or key")
    return tuple(digests)


def _scopes(name: str, table: Mapping[str, Any]) -> frozenset[Scope]:
    if "scopes" not in table:
        return USUAL_SCOPES
    texts = _texts(name, table, "scopes")
    if not set(texts) <= set(Scope):
        raise ValueError(f"[{name}] scopes may be {', '.join(Scope)}")
    return frozenset(map(Scope, texts))


def _texts(name: str, table: Mapping[str, Any], member: str) -> list[str]:
    value = table.get(member, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"[{name}] {member} must be a text or a list of them")
    return texts


def _number(name: str, table: Mapping[str, Any], member: str, low: float, high: float) -> float:
    value = table[member]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"[{name}] {member} must be a number from {low:g} to {high:g}")
    return float(value)
