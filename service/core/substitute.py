"""Names what an adaptive request got in place of what it asked for."""

from __future__ import annotations

import enum

from service.core.types import Method, PredictResult

#: The share that the motion before has in a frame that it alone made.
BEFORE = "before"
#: The same of the last frame, moved as a whole or as it is.
PANNED, REPEATED = "panned", "repeated"


class Substitute(enum.StrEnum):
    """What an adaptive request gets in place of what it asked for, each kind quicker than the one before."""

    BLOCKS = "blocks"  #: fewer blocks
    LIVE = "live"  #: the live head's mixture of motions
    SHIFTED = "shifted"  #: the motion before, followed on
    PANNED = "panned"  #: the last frame, moved as the picture moves as a whole
    REPEATED = "repeated"  #: the last frame as it is

    @classmethod
    def of(cls, result: PredictResult) -> Substitute | None:
        """Tell what a result stands in with; None where it is what was asked for."""
        if not result.shortened:
            return None
        if result.method is Method.DMVFN:
            return cls.BLOCKS
        kinds = {BEFORE: cls.SHIFTED, PANNED: cls.PANNED, REPEATED: cls.REPEATED}
        return next((kind for share, kind in kinds.items() if share in result.shares), cls.LIVE)
