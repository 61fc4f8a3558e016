"""What a wake token says of the item that was submitted, so that whoever it wakes may ask for all of it at once.

It is a hint: another worker may have the item by then. Releases that know of none push "1", and ask nothing of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

#: How a token begins that says more; `submit.lua` writes it.
CALL = b"call"


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """The one item of a call: its work stream, its id, its upload and the front end that waits."""

    stream: str
    job: str
    payload: str
    front: str

    @classmethod
    def read(cls, token: bytes | None) -> ExpectedCall | None:
        """Read a token; None where it says nothing."""
        words = (token or b"").split(b" ")
        if len(words) != 5 or words[0] != CALL:
            return None
        return cls(*(word.decode(errors="replace") for word in words[1:]))
