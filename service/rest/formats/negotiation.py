"""Which of the offered media types an Accept header prefers. Sources: RFC 9110, 12.4.2 and 12.5.1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: HTTP's word for a word, no secret.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # nosec B105
_RANGE = re.compile(rf"({_TOKEN})/({_TOKEN})")
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
#: Browsers send a dozen; the rest of a longer header is not read.
MAX_RANGES = 50


@dataclass(frozen=True, slots=True)
class _Range:
    type: str
    subtype: str
    quality: float

    def fits(self, offer: str) -> int:
        """Return how closely `offer` fits this range: 3 exact, 2 type/*, 1 */*, 0 not at all."""
        type_, _, subtype = offer.partition("/")
        if self.type == "*" and self.subtype == "*":
            return 1
        if self.type != type_:
            return 0
        return 3 if self.subtype == subtype else 2 * (self.subtype == "*")


def choose(accept: str | None, offers: Sequence[str]) -> str | None:
    """Return the best of `offers` (ours first among equals), or None where none is acceptable.

    No header, or none that can be read, accepts everything. The closest range decides an offer's weight; 0 excludes it.
    """
    if accept in offers:  # what most programs send: one type, and nothing to weigh
        return accept
    ranges = _parse(accept) if accept else []
    if not ranges:
        return offers[0]
    best, best_quality = None, 0.0
    for offer in offers:
        closeness, quality = max((r.fits(offer), r.quality) for r in ranges)
        if closeness and quality > best_quality:
            best, best_quality = offer, quality
    return best


def _parse(accept: str) -> list[_Range]:
    ranges = []
    for part in accept.lower().split(",", MAX_RANGES)[:MAX_RANGES]:
        media, *parameters = (word.strip() for word in part.split(";"))
        match = _RANGE.fullmatch(media) or (re.fullmatch(r"(\*)(\*?)", media) and _RANGE.match("*/*"))
        if not match:
            continue
        weight = next((p.partition("=")[2].strip() for p in parameters if p.partition("=")[0].strip() == "q"), "1")
        # A weight that cannot be read counts as none given.
        ranges.append(_Range(match[1], match[2], float(weight) if _WEIGHT.fullmatch(weight) else 1.0))
    return ranges
