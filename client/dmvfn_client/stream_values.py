"""What streams tell beside predictions, as frozen values, and what may be asked of a stream beside its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from dmvfn_client.pb import dmvfn_pb2 as pb
from dmvfn_client.pictures import Pixels


class Conceal(TypedDict, total=False):
    """A steady clock over a stream with losses: `fps` must be said."""

    fps: float
    most: int
    blend: int
    delay_ms: int


class StreamParams(TypedDict, total=False):
    """What a stream as a whole may ask for. docs/api.md says what each means."""

    score: bool
    conceal: Conceal
    show_at: str
    display_fps: float
    display_phase_us: int
    choose: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How good predictions were, against the frames that came, dB; gains: over the frame before shown again."""

    frames: int
    psnr_db: float
    gain_db: float
    mean_psnr_db: float
    mean_gain_db: float


@dataclass(frozen=True, slots=True)
class Show:
    """What an answer aimed at, microseconds on the sender's clock; `miss_us`: how late it may be, if known."""

    aimed_us: tuple[int, ...]
    miss_us: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One tick of a concealed stream. `source`: real, blended, predicted or repeated.

    `pixels` HxWx3 where it is blended or predicted; a real one is the frame that was sent under this number.
    """

    number: int
    source: str
    pixels: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Freezes:
    """As WebRTC's statistics count them: how many, their seconds, and the seconds watched."""

    count: int
    total_s: float
    watched_s: float


@dataclass(frozen=True, slots=True)
class Concealed:
    """What the ticks of a concealed stream showed; its freezes, and those that it would have had by repeating."""

    ticks: Mapping[str, int]
    freezes: Freezes
    freezes_repeating: Freezes


@dataclass(frozen=True, slots=True)
class Summary:
    """A stream's last words, where it asked for them. `frames`: what became of them, by outcome."""

    frames: Mapping[str, int] = field(default_factory=dict)
    score: Score | None = None
    concealed: Concealed | None = None


def fill(start: pb.StreamStart, params: StreamParams) -> None:
    """Write what is asked of the whole stream into its first message."""
    start.score, start.choose = params.get("score", False), params.get("choose", False)
    for name in ("show_at", "display_fps", "display_phase_us"):
        if name in params:
            setattr(start, name, params[name])
    if "conceal" in params:
        start.conceal.CopyFrom(pb.Concealment(**params["conceal"]))


def score(message: pb.Score) -> Score:
    """Return a message as a value."""
    return Score(message.frames, message.psnr_db, message.gain_db, message.mean_psnr_db, message.mean_gain_db)


def summary(message: pb.Summary) -> Summary:
    """Return a message as a value."""
    concealed = None
    if message.HasField("concealed"):
        report = message.concealed
        concealed = Concealed(dict(report.ticks), _freezes(report.freezes), _freezes(report.freezes_repeating))
    return Summary(dict(message.frames), score(message.score) if message.HasField("score") else None, concealed)


def show(message: pb.Show) -> Show:
    """Return a message as a value."""
    return Show(tuple(message.aimed_us), message.miss_us if message.HasField("miss_us") else None)


def shown(message: pb.Shown, pixels: Pixels | None) -> Shown:
    """Return a message as a value; `pixels` of its picture."""
    source = pb.Shown.Source.Name(message.source).removeprefix("SOURCE_").lower()
    return Shown(message.number, source, pixels)


def _freezes(message: pb.Freezes) -> Freezes:
    return Freezes(message.count, message.total_s, message.watched_s)
