"""What a stream's client says and asks for, and what it is told beside answers; whatever the transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.core.errors import ServiceError
from service.core.types import Options
from service.imaging.codec import ImageFormat
from service.serving.prediction import Picture
from service.serving.streaming.online_score import ScoreReport
from service.serving.streaming.session import StreamConfig


@dataclass(frozen=True, slots=True, eq=False)
class FrameMessage:
    """A client's frame."""

    picture: Picture
    frame_id: str = ""
    time_us: int | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """The next frame has no predecessor."""


@dataclass(frozen=True, slots=True)
class InvalidMessage:
    """A message that meant nothing; answered like a frame that failed."""

    error: ServiceError
    frame_id: str = ""
    time_us: int | None = None


Incoming = FrameMessage | Reset | InvalidMessage


@dataclass(frozen=True, slots=True)
class Draining:
    """The last message of a stream that the server ends."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The last message of a stream that asked for it, before Draining. `frames`: what became of them, by outcome."""

    frames: Mapping[str, int]
    score: ScoreReport | None = None


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What the client asked of the whole stream. `deadline` is the call's own, on the service's clock, seconds."""

    options: Options = field(default_factory=Options)
    plan: StreamConfig = field(default_factory=StreamConfig)
    format: ImageFormat = ImageFormat.RAW
    image_quality: int | None = None
    frame_deadline_s: float | None = None
    deadline: float | None = None
    traceparent: str | None = None
    score: bool = False  #: each answer tells how good predictions were, and a last message

    @property
    def has_summary(self) -> bool:
        """Tell whether a last message sums the stream up."""
        return self.score
