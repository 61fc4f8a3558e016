"""One live stream's decisions: which frames are predicted, which left out, and in what order all are answered.

Knows no time, transport, image format or engine: frames in, work out, outcomes in, answers out. Every frame pushed
is answered exactly once, in the order pushed. At most `window` predictions are begun and unanswered, one frame waits
behind them, and `accepting` tells when to stop reading: what a stream holds is bounded whatever its reader does.
Under `latest` one place of the window is for the answer on its way out: a frame begins when the engine has answered
the one before, not earlier, so that what begins is the newest there is.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.core import scene_cut
from service.core.errors import InvalidRequest, ServiceError
from service.core.types import Frame
from service.serving.streaming.online_score import ScoreReport
from service.serving.streaming.show_at import ShowReport

#: What a prediction's outcome is, is the driver's business.
T = TypeVar("T")

#: Frames answered but not yet read by the client, at most: reports of dropped frames are small, but must end somewhere.
MAX_UNREAD = 256
MAX_ID = 256
MAX_WINDOW = 64


class DropPolicy(enum.StrEnum):
    """What becomes of a frame that has not begun when a newer one comes."""

    LATEST = "latest"  #: the newer takes its place; the older is reported as dropped
    ALL = "all"  #: nothing is dropped; reading stops instead


class FirstReason(enum.StrEnum):
    """Why a frame has no predecessor."""

    START = "start"
    SIZE = "size"
    SCENE_CUT = "scene_cut"
    RESET = "reset"
    GAP = "gap"  #: the frame before could not be used


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a stream is served. `window`: most predictions begun and not yet read by the client."""

    window: int = 2
    policy: DropPolicy = DropPolicy.LATEST
    scene_cuts: bool = True

    @property
    def ahead(self) -> int:
        """Return the most predictions the engine has at once: they have begun, and no newer frame takes their place."""
        return self.window if self.policy is DropPolicy.ALL else max(1, self.window - 1)

    def check(self) -> StreamConfig:
        """Return this configuration, or raise InvalidRequest naming the field."""
        if not 1 <= self.window <= MAX_WINDOW:
            raise InvalidRequest(f"window must be between 1 and {MAX_WINDOW}", field="window")
        return self


@dataclass(frozen=True, slots=True)
class Tag:
    """What comes back with a frame's answer. `sequence` counts from 0; `time_us` is on the client's clock.

    `arrived` and `read` (its picture was decoded) are the driver's times, handed through.
    """

    sequence: int
    frame_id: str = ""
    time_us: int | None = None
    arrived: float = 0.0
    read: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PendingPrediction:
    """A prediction to begin now. `pace_us`: between the two frames."""

    tag: Tag
    previous: Frame
    current: Frame
    pace_us: int | None = None


@dataclass(frozen=True, slots=True)
class First:
    """The frame begins a new pair."""

    why: FirstReason


@dataclass(frozen=True, slots=True)
class Dropped:
    """The frame is not predicted from: a newer one came before its turn."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The frame was refused or its prediction failed; the stream goes on."""

    error: ServiceError


@dataclass(frozen=True, slots=True, eq=False)
class Done(Generic[T]):
    """The frame was predicted from; `value` is the answer."""

    value: T


@dataclass(frozen=True, slots=True, eq=False)
class Answer(Generic[T]):
    """One frame's end. `score`: of the stream so far, where it asked."""

    tag: Tag
    outcome: First | Dropped | Failed | Done[T]
    score: ScoreReport | None = None
    show: ShowReport | None = None  #: what it was aimed at, where the stream says when frames are seen


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    tag: Tag
    outcome: First | Dropped | Failed | Done[T] | None = None
    work: PendingPrediction | None = None
    begun: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Last:
    frame: Frame
    time_us: int | None
    thumbnail: scene_cut.Thumbnail | None


class Session(Generic[T]):
    """Push frames, take work, finish it, send what is ready."""

    def __init__(self, plan: StreamConfig) -> None:
        self._plan = plan.check()
        self._entries: deque[_Entry[T]] = deque()
        self._open: dict[int, _Entry[T]] = {}  #: begun, not finished
        self._waiting: deque[_Entry[T]] = deque()
        self._credits = plan.window
        self._at_engine: set[int] = set()
        self._count = 0
        self._last: _Last | None = None
        self._why = FirstReason.START
        self.begins_pair = True  #: the newest frame has no predecessor

    # --- frames in ------------------------------------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        """Tell whether another frame may be read now."""
        if len(self._entries) >= MAX_UNREAD:
            return False
        return self._plan.policy is DropPolicy.LATEST or not self._waiting

    def push(
        self,
        frame: Frame,
        *,
        frame_id: str = "",
        time_us: int | None = None,
        arrived: float = 0.0,
        read: float = 0.0,
    ) -> Tag:
        """Take a frame; it is answered at once if it has no predecessor."""
        entry = self._enter(Tag(self._count, frame_id, time_us, arrived, read))
        thumbnail = scene_cut.thumbnail(frame) if self._plan.scene_cuts else None
        last, self._last = self._last, _Last(frame, time_us, thumbnail)
        why = self._begins(last, self._last)
        self.begins_pair = last is None or why is not None
        if last is None or why is not None:
            entry.outcome = First(why or self._why)
            self._why = FirstReason.START
            return entry.tag
        pace = None if time_us is None or last.time_us is None else time_us - last.time_us
        entry.work = PendingPrediction(entry.tag, last.frame, frame, pace)
        self._waiting.append(entry)
        if self._plan.policy is DropPolicy.LATEST:
            while len(self._waiting) > max(1, self._room):
                self._drop(self._waiting.popleft())
        return entry.tag

    def push_failed(
        self, error: ServiceError, *, frame_id: str = "", time_us: int | None = None, arrived: float = 0.0
    ) -> Tag:
        """Take note of a frame that cannot be used; the next one has no predecessor."""
        entry = self._enter(Tag(self._count, frame_id, time_us, arrived, arrived))
        entry.outcome = Failed(error)
        self._last, self._why = None, FirstReason.GAP
        return entry.tag

    def reset(self) -> None:
        """Forget the predecessor: the client jumped. What is under way goes on."""
        self._last, self._why = None, FirstReason.RESET

    # --- work out, outcomes in ------------------------------------------------------------------------------------

    def take(self) -> list[PendingPrediction]:
        """Take what must begin now, oldest first; each occupies a place in the window until its answer is sent."""
        work_items = []
        while self._waiting and self._room:
            entry = self._waiting.popleft()
            work, entry.work, entry.begun = entry.work, None, True
            assert work is not None  # only entries with work wait
            self._credits -= 1
            self._open[entry.tag.sequence] = entry
            self._at_engine.add(entry.tag.sequence)
            work_items.append(work)
        return work_items

    def predicted(self, sequence: int) -> None:
        """Note that the engine is done with it, whatever remains to be done to its answer: the next may begin."""
        self._at_engine.discard(sequence)

    def finish(self, sequence: int, outcome: Done[T] | Failed) -> None:
        """Set the outcome of what `take` returned. Raises KeyError if it had one already."""
        self.predicted(sequence)
        self._open.pop(sequence).outcome = outcome

    # --- answers out ----------------------------------------------------------------------------------------------

    def ready(self) -> Answer[T] | None:
        """Return the next answer in order, if it is known. It stays until `sent`."""
        if not self._entries or self._entries[0].outcome is None:
            return None
        head = self._entries[0]
        assert head.outcome is not None
        return Answer(head.tag, head.outcome)

    def sent(self) -> None:
        """Drop the answer that `ready` showed, now handed over; its place in the window is free again."""
        if self._entries.popleft().begun:
            self._credits += 1

    @property
    def idle(self) -> bool:
        """Tell whether every frame has been answered."""
        return not self._entries

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        """Count the predictions that may begin now."""
        return min(self._credits, self._plan.ahead - len(self._at_engine))

    def _enter(self, tag: Tag) -> _Entry[T]:
        entry: _Entry[T] = _Entry(tag)
        self._count += 1
        self._entries.append(entry)
        return entry

    def _begins(self, last: _Last | None, new: _Last) -> FirstReason | None:
        if last is None:
            return self._why
        if last.frame.pixels.shape != new.frame.pixels.shape:
            return FirstReason.SIZE
        if last.thumbnail is not None and new.thumbnail is not None and scene_cut.is_cut(last.thumbnail, new.thumbnail):
            return FirstReason.SCENE_CUT
        return None

    def _drop(self, entry: _Entry[T]) -> None:
        entry.outcome, entry.work = Dropped(), None
