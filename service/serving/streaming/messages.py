"""What a stream's client says and asks for, and what it is told beside answers; whatever the transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.core.errors import InvalidRequest, ServiceError
from service.core.types import Options, Quality
from service.imaging.codec import ImageFormat
from service.serving.prediction import Picture
from service.serving.streaming.concealment import Concealment, TickSource
from service.serving.streaming.freezes import FreezeReport
from service.serving.streaming.online_score import ScoreReport
from service.serving.streaming.session import StreamConfig
from service.serving.streaming.show_at import AnswerReceipt, ShowAt
from service.telemetry.request_context import RequestContext, sharer


@dataclass(frozen=True, slots=True, eq=False)
class FrameMessage:
    """A client's frame. `number`: its place in the sequence that the client made, gaps and all."""

    picture: Picture
    frame_id: str = ""
    time_us: int | None = None
    number: int | None = None
    sent_us: int | None = None  #: when the client sent it, on its clock
    receipt: AnswerReceipt | None = None  #: when it had an earlier answer


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


@dataclass(frozen=True, slots=True, eq=False)
class ShownTick:
    """One tick of a concealed stream. `picture` is set where it is not a frame that the client has."""

    number: int
    source: TickSource
    frame_id: str = ""
    time_us: int | None = None
    picture: bytes | None = None
    format: ImageFormat = ImageFormat.RAW
    height: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True)
class ConcealmentReport:
    """Ticks by what they showed; freezes as they were, and as they would have been without predictions."""

    ticks: Mapping[str, int]
    freezes: FreezeReport
    freezes_repeating: FreezeReport


@dataclass(frozen=True, slots=True)
class Summary:
    """The last message of a stream that asked for it, before Draining. `frames`: what became of them, by outcome."""

    frames: Mapping[str, int]
    score: ScoreReport | None = None
    concealed: ConcealmentReport | None = None


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
    key_digest: bytes = field(default=b"", repr=False)  #: of the API key that opened it; it ends when that is withdrawn
    sharer: str = ""  #: whom limits count its predictions for: the key's name, else the address
    conceal: Concealment | None = None  #: a steady clock out, lost frames predicted
    show: ShowAt | None = None  #: frames for when they are seen
    score: bool = False  #: each answer tells how good predictions were, and a last message
    choose: bool = False  #: whatever predictor scores best predicts

    @property
    def has_summary(self) -> bool:
        """Tell whether a last message sums the stream up."""
        return self.score or self.conceal is not None

    def opened_by(self, context: RequestContext) -> StreamRequest:
        """Return this request with what is known of who opened the stream."""
        return replace(
            self, traceparent=context.trace.traceparent, key_digest=context.key_digest, sharer=sharer(context)
        )

    def client_of_predictions(self, client: str, identity: str, *, is_counted: bool) -> str:
        """Return whom the predictions of a stream called `identity` are for; `client`: its key's name.

        Without keys every stream is a client of its own, so that they take turns; but where each client's requests are
        counted, streams would multiply what an address may have.
        """
        return client or (self.sharer if is_counted else "") or identity

    def check(self) -> StreamRequest:
        """Return this request, or raise InvalidRequest naming what does not go together."""
        if self.conceal is not None and (self.options.times or self.options.steps != 1):
            field = "t" if self.options.times else "horizon"
            raise InvalidRequest(
                f"{field} means nothing with conceal, whose clock says when frames are shown", field=field
            )
        if self.show is not None and (self.options.times or self.options.steps != 1 or self.conceal is not None):
            field = "conceal" if self.conceal is not None else "t" if self.options.times else "horizon"
            raise InvalidRequest(f"{field} means nothing where show_at or display_fps says when", field=field)
        if self.choose:
            self._check_choice()
        return self

    def _check_choice(self) -> None:
        options = self.options
        for name, is_said in (
            ("conceal", self.conceal is not None),
            ("scale", options.scale != 1.0),
            ("route", options.names_network),
            ("method", options.method is not None or options.quality is Quality.FAST),
        ):
            if is_said:
                raise InvalidRequest(f"{name} means nothing with choose, which leaves open what predicts", field=name)
