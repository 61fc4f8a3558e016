"""What a request for bytes that lie ready asks for: one range of them, or all (RFC 9110, 14), unless it has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.core.errors import InvalidRequest

_ONE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableRange(InvalidRequest):
    """The range begins behind the last byte. Its status is 416."""

    reason = "range"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop` of `total`."""

    start: int
    stop: int
    total: int

    @property
    def content_range(self) -> str:
        """Write the header that goes with a 206."""
        return f"bytes {self.start}-{self.stop - 1}/{self.total}"


def is_matched(header: str | None, etag: str) -> bool:
    """Tell whether If-None-Match names what is there already, weakly compared (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or tags == ["*"]


def parse(header: str | None, total: int) -> ByteRange | None:
    """Return the one range of `header`; None for the whole: no header, several ranges, or what is no range of bytes.

    Raises UnsatisfiableRange where no byte lies in it.
    """
    match = _ONE.fullmatch(header) if header is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, stop = int(match[1]), min(total, int(match[2]) + 1) if match[2] else total
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, stop = max(0, total - int(match[2])), total
    if start >= stop:
        raise UnsatisfiableRange(f"the range begins behind the last of {total} bytes", field="Range")
    return ByteRange(start, stop, total)
