"""Takes an API key out of an Authorization header. Knows no other header's name."""

from __future__ import annotations


def bearer(authorization: str | None) -> str | None:
    """Return the key in an `Authorization: Bearer KEY` value, or None for any other."""
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None
