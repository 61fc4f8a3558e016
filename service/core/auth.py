"""Who is calling: compares a presented API key with the known ones. Knows no header's name but Authorization's form."""

from __future__ import annotations

import hashlib
import hmac

from service.core.errors import Unauthenticated


def bearer(authorization: str | None) -> str | None:
    """Return the key in an `Authorization: Bearer KEY` value, or None for any other."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def identify(keys: tuple[tuple[str, str], ...], api_key: str | None) -> str:
    """Return the name that belongs to the caller's key; "" where no keys are set. Raises Unauthenticated otherwise.

    `keys` are (name, key) pairs. Time tells nothing of them: digests of one length are compared, always all.
    """
    if not keys:
        return ""
    if api_key is None:
        raise Unauthenticated("an API key is needed: Authorization: Bearer KEY")
    digest = _digest(api_key)
    match = ""
    for name, key in keys:
        if hmac.compare_digest(digest, _digest(key)):
            match = name
    if not match:
        raise Unauthenticated("this API key is not known")
    return match


def _digest(key: str) -> bytes:
    # surrogatepass: a header of arbitrary bytes must be refused, not crash.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
