"""Checks that the head of a request means one thing: of two values, each server on the way may take another."""

from __future__ import annotations

from collections.abc import Iterable

from service.core.errors import InvalidRequest, Unsupported

#: Fields that are read here and have one value, as they are called in errors.
_SINGLE = {
    name.lower().encode(): name
    for name in (
        *("Host", "Authorization", "Content-Type", "Content-Encoding", "Content-Disposition", "Range", "If-Range"),
        *("Idempotency-Key", "X-Frame-Shape", "X-Request-Timeout-Ms", "Inference-Header-Content-Length"),
    )
}


def check(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise InvalidRequest, by name, for a field of one value that is given twice; `headers` have names in lower case.

    Raises Unsupported for a body that is coded for its way other than in chunks: it would be taken for its content.
    """
    seen: set[bytes] = set()
    for name, value in headers:
        if name in _SINGLE:
            if name in seen:
                raise InvalidRequest(f"{_SINGLE[name]} is given twice", field=_SINGLE[name])
            seen.add(name)
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            why = "bodies may come in chunks; no other coding of a transfer is read"
            raise Unsupported(why, field="Transfer-Encoding")
