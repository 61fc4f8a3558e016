"""What streams tell beside predictions, as frozen values, and what may be asked of a stream beside its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from dmvfn_client.pb import dmvfn_pb2 as pb


class StreamParams(TypedDict, total=False):
    """What a stream as a whole may ask for. docs/api.md says what each means."""

    score: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How good predictions were, against the frames that came, dB; gains: over the frame before shown again."""

    frames: int
    psnr_db: float
    gain_db: float
    mean_psnr_db: float
    mean_gain_db: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A stream's last words, where it asked for them. `frames`: what became of them, by outcome."""

    frames: Mapping[str, int] = field(default_factory=dict)
    score: Score | None = None


def fill(start: pb.StreamStart, params: StreamParams) -> None:
    """Write what is asked of the whole stream into its first message."""
    start.score = params.get("score", False)


def score(message: pb.Score) -> Score:
    """Return a message as a value."""
    return Score(message.frames, message.psnr_db, message.gain_db, message.mean_psnr_db, message.mean_gain_db)


def summary(message: pb.Summary) -> Summary:
    """Return a message as a value."""
    return Summary(dict(message.frames), score(message.score) if message.HasField("score") else None)
